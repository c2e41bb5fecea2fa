"""Each update replaced by the mean of the n - f that are nearest to it.

Source: Allouah et al. 2023, arXiv 2302.01772, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from consilium.core.update import Update

from ._distances import inner_products, squared_distances
from ._payloads import combined, vectors
from ._step_before import StepBefore

__all__ = ["NearestMixing", "neighbourhoods"]


def neighbourhoods(distances: Tensor, count: int) -> Tensor:
    """Shares ``(n, n)``: row i has 1 / ``count`` at the ``count`` updates nearest to i, itself among them."""
    order = distances.clone().fill_diagonal_(-1).argsort(dim=1, stable=True)[:, :count]
    return torch.zeros_like(distances).scatter_(1, order, 1 / count)


@dataclass(frozen=True, eq=False)
class NearestMixing(StepBefore):
    """n mixed updates of equal weight, each under its site's name."""

    byzantine: int = 1

    def withstood(self, n: int) -> int:
        """f: what is not finite is in no neighbourhood."""
        return self.byzantine

    def changed(self, updates: Sequence[Update]) -> list[Update]:
        """Neighbours are those by the parameters' change; all parts are mixed alike."""
        weight = sum(update.weight for update in updates) / len(updates)
        count = max(1, len(updates) - self.byzantine)
        shares = neighbourhoods(squared_distances(inner_products(vectors(updates))).cpu(), count)
        return [
            replace(update, weight=weight, payload=combined(updates, row))
            for update, row in zip(updates, shares, strict=True)
        ]
