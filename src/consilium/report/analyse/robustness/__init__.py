"""What the figures of robustness rest on: red flags, curves over radii and over corrupted sites, conflicts."""
