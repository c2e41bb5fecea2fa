"""Between a site and the merge."""
