"""Everything before training: rules, privacy claims, keys of stages, checks."""
