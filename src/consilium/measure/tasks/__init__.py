"""Figures of findings, numbers, masks and times: one file for each kind of task."""
