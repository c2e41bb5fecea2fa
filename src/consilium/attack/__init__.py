"""Adversaries, by what they gain."""
