"""Logistic regression on few columns, by Newton's method with a ridge: the same numbers every time."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["logistic_fit"]

_STEPS, _RIDGE = 25, 1.0


def logistic_fit(columns: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``(d,)`` and a bias for ``columns (n, d)``, so that the sum is the log odds of ``positive (n,)`` bool.

    The columns are standardised within, and the ridge of 1 is on those; the result is for the columns as they are.
    """
    x, y = columns.double(), positive.double()
    mean, deviation = x.mean(0), x.std(0, correction=0).clamp_min(1e-12)
    design = torch.cat([(x - mean) / deviation, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    penalty = torch.diag(torch.tensor([_RIDGE] * x.shape[1] + [1e-9], dtype=x.dtype))
    weights = torch.zeros(design.shape[1], dtype=x.dtype)
    for _ in range(_STEPS):
        p = (design @ weights).sigmoid()
        slope = design.T @ (y - p) - penalty @ weights
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + penalty
        weights = weights + torch.linalg.solve(curvature, slope)
    scaled = weights[:-1] / deviation
    return scaled, weights[-1] - (scaled * mean).sum()
