"""The command line: the only place that prints, exits, prompts, or reads the home folder."""
