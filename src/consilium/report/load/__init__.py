"""Evidence read from a study's folder."""
