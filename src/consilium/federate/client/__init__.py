"""The site's half of a round: local training, its state and its ledger."""
