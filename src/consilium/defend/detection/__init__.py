"""Beside the answer: what is rejected as no ordinary input."""
