"""Min-Max: the forged update is no further from any honest one than the two honest ones that are furthest apart.

    delta' = mu + gamma p,   largest gamma with  max_i ||delta' - delta_i||  <=  max_ij ||delta_i - delta_j||

Source: Shejwalkar and Houmansadr 2021, Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for
Federated Learning, NDSS
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._within_honest import Direction, WithinHonest, largest_root

__all__ = ["MinMax"]


@dataclass(frozen=True)
class MinMax(WithinHonest):
    """Goes as far from the honest mean as the largest distance between two honest updates allows."""

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    direction: Direction = "deviation"
    """Which way: against the mean, against each coordinate's deviation, or against each coordinate's sign."""

    def reach(self, honest: Tensor, way: Tensor) -> float:
        """The smallest over the honest updates of how far each allows."""
        apart = torch.cdist(honest, honest, compute_mode="donot_use_mm_for_euclid_dist").max()
        offset = honest.mean(0) - honest
        a = way.square().sum().expand(len(honest))
        return float(largest_root(a, offset @ way, offset.square().sum(1) - apart.square()).min().clamp_min(0))
