"""What is asked: the study file, its tables, arms and defaults."""
