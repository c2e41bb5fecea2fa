"""Krum's score of an update: the sum of squared distances to its n - f - 2 nearest others.

Source: Blanchard et al. 2017, arXiv 1703.02757, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.update import Payload, Update

from ._distances import inner_products, squared_distances
from ._payloads import combined, vectors
from ._robust_rule import RobustRule

__all__ = ["KrumRule", "krum_scores"]


def krum_scores(distances: Tensor, byzantine: int) -> Tensor:
    """Scores ``(n,)`` of squared ``distances (n, n)``; of at least one neighbour, where n - f - 2 are none."""
    n = len(distances)
    others = distances + torch.diag(torch.full((n,), float("inf"), dtype=distances.dtype, device=distances.device))
    return others.sort(dim=1).values[:, : max(1, n - byzantine - 2)].sum(dim=1)


@dataclass(frozen=True, eq=False)
class KrumRule(RobustRule):
    """The plain mean of the ``selected`` updates of the lowest score, of n - f where it is None."""

    selected: int | None = 1

    def combine(self, updates: Sequence[Update], byzantine: int, memory: Payload) -> tuple[Payload, Payload]:
        """Of equal scores the first by its site's name wins."""
        n = len(updates)
        count = min(n - byzantine, n - byzantine if self.selected is None else self.selected)
        scores = krum_scores(squared_distances(inner_products(vectors(updates))), byzantine)
        factors = torch.zeros(n, dtype=torch.float64)
        factors[scores.cpu().argsort(stable=True)[:count]] = 1 / count
        return combined(updates, factors), memory
