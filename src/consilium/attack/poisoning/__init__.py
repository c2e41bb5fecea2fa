"""Corrupt sites inside the training."""
