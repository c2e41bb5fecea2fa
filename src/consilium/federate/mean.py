"""The default merge: the weighted mean.  It reads the sum alone, so secure aggregation can stand before it.

Source: McMahan et al. 2017, arXiv:1602.05629.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from consilium.core.merge import Merge
from consilium.core.update import Aggregate, Payload, Update

__all__ = ["WeightedMean"]


class WeightedMean(Merge):
    """sum_k (w_k / sum w) payload_k."""

    reads: Literal["sum", "each"] = "sum"

    def merge(self, updates: Sequence[Update], memory: Payload) -> tuple[Aggregate, Payload]:
        """The mean, summed in the order of ``updates`` so that the same cohort gives the same bits."""
        total = sum(u.weight for u in updates)
        merged = {name: tensor * (updates[0].weight / total) for name, tensor in updates[0].payload.items()}
        for update in updates[1:]:
            for name, tensor in update.payload.items():
                merged[name].add_(tensor, alpha=update.weight / total)  # its own: made above
        return Aggregate(merged, total, len(updates)), memory
