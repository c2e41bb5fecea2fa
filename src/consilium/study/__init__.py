"""A study: spec, laws, plan, run and store."""
