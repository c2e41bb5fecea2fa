"""A trained model released, judged and attacked."""
