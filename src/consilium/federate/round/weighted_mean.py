"""The default merge: the weighted mean.  It reads the sum alone, so secure aggregation can stand before it.

Source: McMahan et al. 2017, arXiv:1602.05629.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import Tensor

from consilium.core.merge import Aggregator
from consilium.core.update import Aggregate, Payload, Update

__all__ = ["WeightedMean"]


class WeightedMean(Aggregator):
    """sum_k (w_k / sum w) payload_k."""

    reads: Literal["sum", "each"] = "sum"

    def merge(
        self, updates: Iterable[Update], memory: Payload, weight: float | None = None
    ) -> tuple[Aggregate, Payload]:
        """The mean, summed in the order of ``updates`` so that the same cohort gives the same bits.

        Each weight is divided by the sum of all before its update is added; without ``weight`` the updates are held
        until that is known.
        """
        if weight is None:
            updates = list(updates)
            weight = sum(update.weight for update in updates)
        total, count = dict[str, Tensor](), 0
        for update in updates:
            share = update.weight / weight
            for name, tensor in update.payload.items():
                if count:
                    total[name].add_(tensor, alpha=share)  # memory of its own: copied from the first update
                else:
                    total[name] = tensor * share
            count += 1
        return Aggregate(total, weight, count), memory
