"""Adversaries, sorted by what they gain."""
