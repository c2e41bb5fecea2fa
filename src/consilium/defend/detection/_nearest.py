"""How fast the neighbourhood of a point grows: the maximum-likelihood estimate of its local dimension.

Source: Amsaleg et al. 2015, Estimating Local Intrinsic Dimensionality, KDD
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["local_dimension"]

_FLOOR = 1e-12
"""Least squared distance: a record at a neighbour's place."""


def local_dimension(x: Tensor, among: Tensor, neighbours: int) -> Tensor:
    """The estimate ``(n,)`` for points ``x (n, d)`` from the nearest of ``among (m, d)``; above 0, and finite."""
    squared = (x[:, None] - among).square().sum(2).clamp_min(_FLOOR)
    nearest = squared.topk(neighbours, dim=1, largest=False).values
    growth = (nearest / nearest[:, -1:]).log().mean(1) / 2
    return -1 / growth.clamp_max(-(_FLOOR**0.5))
