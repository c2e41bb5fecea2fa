"""What sets a backdoor off: a pattern of pixels, columns of a table, a property of the record."""
