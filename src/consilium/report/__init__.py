"""Evidence to tables, figures and one page."""
