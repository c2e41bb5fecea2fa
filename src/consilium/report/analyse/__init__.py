"""Figures compared, summarised and bounded."""
