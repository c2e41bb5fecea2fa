"""What replaces the weighted mean."""
