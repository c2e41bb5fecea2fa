"""Defences, sorted by the moment at which they act, in the order in which data travels."""
