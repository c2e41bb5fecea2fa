"""Models, objectives, gradient rules and inner maximisation."""
