"""Algorithms, engines and rounds."""
