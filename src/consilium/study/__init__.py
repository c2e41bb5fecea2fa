"""A study: its file is read, rules are checked, a plan is made and run, evidence is stored."""
