"""The stages of a plan: a file for each kind, and the graph that says which waits for which."""
