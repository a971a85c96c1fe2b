"""One small file per agent behind one Protocol: how its calls are seen and answered."""
