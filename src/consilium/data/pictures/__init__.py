"""Folders of pictures: which files are read, of which class or with which mask, and what is in them."""
