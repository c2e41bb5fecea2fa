"""The answer to a study's question, in sentences."""
