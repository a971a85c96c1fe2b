"""Reading the record: views without printing, for people and for other tools."""
