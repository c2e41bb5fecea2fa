"""Federated training: algorithms, the two halves of a round, engines that carry it."""
