"""What every room shares: the nouns, derived randomness, errors, the catalogue; torch and the standard library only."""
