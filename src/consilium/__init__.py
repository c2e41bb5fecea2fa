"""Consilium: private, robust and scalable collaborative learning, with evidence."""
