"""The same sites on separate machines: keys, a server, sites, and a strict gateway between them."""
