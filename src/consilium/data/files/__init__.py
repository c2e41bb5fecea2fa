"""Files read into arrays: archives, layouts, splits, what labels mean."""
