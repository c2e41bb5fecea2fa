"""The nearest point yet, of each record, at which the goal is reached; and a search between it and the record."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.learn.perturbation.ball import per_row

from .boundary import Boundary

__all__ = ["Closest", "shortened"]


@dataclass(frozen=True, eq=False)
class Closest:
    """``points (n, *shape)`` and their ``distances (n,)``: the record itself and infinity until there is one."""

    points: Tensor
    distances: Tensor

    @classmethod
    def of(cls, x: Tensor) -> Closest:
        """Nothing found yet for the records ``x (n, *shape)``."""
        return cls(x.clone(), torch.full((len(x),), math.inf, dtype=x.dtype, device=x.device))

    def offer(self, rows: Tensor, points: Tensor, distances: Tensor, reached: Tensor) -> None:
        """Keep those of ``points (k, *shape)``, of the records ``rows (k,)``, that reach the goal from nearer."""
        better = reached & (distances < self.distances[rows])
        self.points[rows[better]] = points[better]
        self.distances[rows[better]] = distances[better]


def shortened(boundary: Boundary, x: Tensor, points: Tensor, y: Tensor, halvings: int) -> Tensor:
    """The points ``(n, *shape)`` of the segments from ``x`` to ``points``, which reach the goal, nearest to x.

    The segment is halved so often; a point is kept only where it reaches the goal itself.
    """
    low, high = torch.zeros(len(x), dtype=x.dtype, device=x.device), torch.ones(len(x), dtype=x.dtype, device=x.device)
    nearest = points.clone()
    for _ in range(halvings if len(x) else 0):
        middle = (low + high) / 2
        between = torch.lerp(x, points, per_row(middle, x))
        reached = boundary.reached(between, y)
        nearest[reached] = between[reached]
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return nearest
