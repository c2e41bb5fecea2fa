"""Where curves go beside the evidence: one file per program that can draw them."""
