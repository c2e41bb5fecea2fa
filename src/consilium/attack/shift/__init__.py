"""Change an input as the world does, with no adversary behind it."""
