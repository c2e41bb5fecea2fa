"""How far answered probabilities can be trusted: Brier score, calibration error, resampling by unit."""
