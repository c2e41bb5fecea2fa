"""What watches a run: progress, time left, epsilon spent, sinks of curves.  It displays and decides nothing."""
