"""How messages travel: Flower, TLS, processes, the gateway."""
