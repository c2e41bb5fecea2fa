"""Membership inference: which records were in the training set."""
