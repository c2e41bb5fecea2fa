"""Change an input to change its diagnosis."""
