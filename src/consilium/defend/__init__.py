"""Defences, by the moment at which they act."""
