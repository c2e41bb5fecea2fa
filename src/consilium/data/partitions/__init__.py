"""One way of dividing records over sites per file."""
