"""Tell who was in the training set."""
