"""Data sets read, checked and divided among sites: sources, partitions, pools."""
