"""FLTrust: each update counts by its angle to the server's own, and at the server's length.

Source: Cao et al. 2021, arXiv 2012.13995, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.merge import Aggregator, RootUpdate
from consilium.core.update import Aggregate, Payload, Update

from ._payloads import DELTA, check_alike, is_finite

__all__ = ["RootTrust", "trust"]


def trust(delta: Tensor, root: Tensor) -> tuple[float, float]:
    """max(0, cos) of the angle between ``delta`` and ``root``, and the factor that gives one the other's length."""
    length, other = (float(torch.linalg.vector_norm(t, dtype=torch.float64)) for t in (delta, root))
    if not length or not other:
        return 0.0, 0.0
    cosine = float(torch.dot(delta.double() / length, root.double() / other))
    return max(0.0, cosine), other / length


@dataclass(frozen=True, eq=False)
class RootTrust(Aggregator):
    """Adds updates as they come and keeps none; what is not finite has no trust."""

    root: RootUpdate | None = None

    reads: Literal["sum", "each"] = "each"

    @property
    def streams(self) -> bool:
        """It knows the server's own update before the first one comes."""
        return True

    def at(self, root: RootUpdate) -> Aggregator:
        """This rule with the server's update of a round."""
        return replace(self, root=root)

    def merge(
        self, updates: Iterable[Update], memory: Payload, weight: float | None = None
    ) -> tuple[Aggregate, Payload]:
        """The mean by trust; the server's own update where no site is trusted.

        Raises Refused: there is no update of the server, or one has other names or shapes.
        """
        if self.root is None:
            raise Refused("fl-trust was called without an update of the server's own", remedy="give public records")
        measure = dict(self.root())
        total = {name: torch.zeros_like(tensor) for name, tensor in measure.items()}
        trusted, weights, count = 0.0, 0.0, 0
        for update in updates:
            check_alike((Update("the server", update.round, 1.0, measure), update))
            weights, count = weights + update.weight, count + 1
            score, scale = trust(update.payload[DELTA], measure[DELTA]) if is_finite(update) else (0.0, 0.0)
            if score:
                trusted += score
                for name, tensor in update.payload.items():
                    total[name].add_(tensor, alpha=score * scale if name == DELTA else score)
        payload = {name: tensor / trusted for name, tensor in total.items()} if trusted else measure
        return Aggregate(payload, weights, count), memory
