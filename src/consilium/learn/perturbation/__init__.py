"""Perturb an input within a ball, towards a goal, by following a loss."""
