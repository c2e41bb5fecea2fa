"""Figures with n, interval and chance level: utility, robustness, privacy, cost."""
