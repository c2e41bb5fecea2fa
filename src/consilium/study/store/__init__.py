"""Where evidence lies, on which machine, and how an error reads in it."""
