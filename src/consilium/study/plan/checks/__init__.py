"""What a plan looks at before anything trains: radii, corruptions, observers, knobs without effect, earlier records."""
