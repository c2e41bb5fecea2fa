"""One federated algorithm per file."""
