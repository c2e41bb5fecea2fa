"""Fine-tuning: which layers train, low-rank additions to the others, and which frozen layers read a batch."""
