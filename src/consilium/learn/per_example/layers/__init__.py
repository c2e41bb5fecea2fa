"""Rules for the gradients per example of torch's layers, one file each."""
