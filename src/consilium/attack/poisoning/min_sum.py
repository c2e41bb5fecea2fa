"""Min-Sum: the forged update is no further from the honest ones, squared and summed, than any honest one is.

    delta' = mu + gamma p,   largest gamma with  sum_i ||delta' - delta_i||^2  <=  max_i sum_j ||delta_i - delta_j||^2

Source: Shejwalkar and Houmansadr 2021, Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for
Federated Learning, NDSS
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._within_honest import Direction, WithinHonest, largest_root

__all__ = ["MinSum"]


@dataclass(frozen=True)
class MinSum(WithinHonest):
    """Goes as far from the honest mean as the largest sum of squared distances of an honest update allows."""

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    direction: Direction = "deviation"
    """Which way: against the mean, against each coordinate's deviation, or against each coordinate's sign."""

    def reach(self, honest: Tensor, way: Tensor) -> float:
        """The distances sum to n gamma^2 ||p||^2 and a constant, as those from the mean cancel."""
        squares = torch.cdist(honest, honest, compute_mode="donot_use_mm_for_euclid_dist").square().sum(1)
        offset = honest.mean(0) - honest
        a = len(honest) * way.square().sum()
        return float(largest_root(a, (offset @ way).sum(), offset.square().sum() - squares.max()).clamp_min(0))
