"""Table, page and pictures."""
