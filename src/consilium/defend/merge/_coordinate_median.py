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

from ._coordinate_trim import ordered
from ._payloads import by_coordinate

__all__ = ["CoordinateMedian"]


class CoordinateMedian(Aggregator):
    """The median of each coordinate, the mean of the middle two where the count is even; weights are ignored."""

    reads: Literal["sum", "each"] = "each"

    def withstood(self, updates: int) -> int | None:
        """Any minority."""
        return (updates - 1) // 2

    def merge(
        self, updates: Iterable[Update], memory: Payload, weight: float | None = None
    ) -> tuple[Aggregate, Payload]:
        """Every site counts once; NaN counts as larger than anything, so a minority of it changes nothing.

        Raises Refused: the payloads of two updates have different names or shapes.  Raises Failed: half of the updates
        are not finite in some coordinate.
        """
        updates = list(updates)
        first = updates[0].payload
        for update in updates:
            if {k: t.shape for k, t in update.payload.items()} != {k: t.shape for k, t in first.items()}:
                raise Refused(f"its payload differs from that of {updates[0].site}", where=update.site)
        merged = {name: by_coordinate(updates, name, _median) for name in first}
        for name, tensor in merged.items():
            if not tensor.isfinite().all():
                raise Failed(f"half of the updates' {name} is not finite", remedy="lower the learning rate")
        return Aggregate(merged, sum(u.weight for u in updates), len(updates)), memory


def _median(block: Tensor) -> Tensor:
    """Of each column of ``(n, block)``; a zero has the sign that a stable sort gives it."""
    middle = _between(ordered(block))
    zero = middle == 0
    if zero.any():
        middle[zero] = _between(block[:, zero].sort(dim=0, stable=True).values)
    return middle


def _between(values: Tensor) -> Tensor:
    """The middle of sorted columns, the mean of two where their number is even."""
    n = len(values)
    low, high = values[(n - 1) // 2], values[n // 2]
    return torch.where(low == high, low, low / 2 + high / 2)
