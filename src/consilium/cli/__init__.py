"""The command line: commands, what they print, and what ends them."""
