"""The server's half of a round: admission, aggregation, observers, log."""
