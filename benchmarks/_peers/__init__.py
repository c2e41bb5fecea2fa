"""The engines that benchmarks/federation.py races: a plain loop, Flower, pfl-research, and Consilium's own."""
