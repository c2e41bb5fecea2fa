"""Code of a user that models are made of: how it is found, imported and rebuilt, and what of it runs."""
