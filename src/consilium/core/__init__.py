"""The nouns, derived randomness, errors and the catalogue; torch and the standard library only."""
