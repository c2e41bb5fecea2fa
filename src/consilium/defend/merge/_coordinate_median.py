"""The coordinate-wise median: in each coordinate, half of the updates are on either side.

Source: Yin et al. 2018, Byzantine-Robust Distributed Learning, arXiv 1803.01498.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from consilium.core.errors import Failed, Refused
from consilium.core.merge import Aggregator
from consilium.core.update import Aggregate, Payload, Update

__all__ = ["CoordinateMedian"]


class CoordinateMedian(Aggregator):
    """The median of each coordinate, the mean of the middle two where the count is even; weights are ignored."""

    reads: Literal["sum", "each"] = "each"

    def merge(
        self, updates: Iterable[Update], memory: Payload, weight: float | None = None
    ) -> tuple[Aggregate, Payload]:
        """Every site counts once; NaN counts as larger than anything, so a minority of it changes nothing.

        Raises Refused: the payloads of two updates have different names or shapes.
        """
        updates = list(updates)
        first = updates[0].payload
        for update in updates:
            if {k: t.shape for k, t in update.payload.items()} != {k: t.shape for k, t in first.items()}:
                raise Refused(f"its payload differs from that of {updates[0].site}", where=update.site)
        merged = {name: _median(torch.stack([u.payload[name] for u in updates]), name) for name in first}
        return Aggregate(merged, sum(u.weight for u in updates), len(updates)), memory


def _median(stacked: Tensor, name: str) -> Tensor:
    """Over the first axis."""
    ordered, n = stacked.sort(dim=0).values, len(stacked)
    low, high = ordered[(n - 1) // 2], ordered[n // 2]
    middle = torch.where(low == high, low, low / 2 + high / 2)
    if not middle.isfinite().all():
        raise Failed(f"half of the updates' {name} is not finite", remedy="lower the learning rate")
    return middle
