"""What a study looks at after every round of a training."""
