"""Copies of a run's curves for TensorBoard and MLflow."""
