"""A plan carried out, described and read back."""
