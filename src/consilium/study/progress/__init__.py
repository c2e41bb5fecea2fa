"""The events of a run, their counts, and what is shown of them."""
