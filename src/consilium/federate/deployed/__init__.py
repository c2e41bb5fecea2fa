"""What a federation of real machines adds: messages as bytes, who may send them, and each site's own rules."""
