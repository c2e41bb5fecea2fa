"""Divide and conquer (DnC): updates are left out by their share in the largest direction of variation.

Source: Shejwalkar and Houmansadr 2021, Manipulating the Byzantine, NDSS, algorithm 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from consilium.core.random import Stream
from consilium.core.update import Payload, Update

from ._payloads import DELTA, combined
from ._robust_rule import RobustRule

__all__ = ["SpectralRule", "outlier_scores"]


def outlier_scores(rows: Tensor) -> Tensor:
    """Scores ``(n,)`` of ``rows (n, b)``: squared lengths along the first principal direction, in float64."""
    centred = rows.double() - rows.double().mean(dim=0)
    values, directions = torch.linalg.eigh(centred @ centred.T)
    scores: Tensor = values[-1].clamp(min=0) * directions[:, -1].square()
    return scores


@dataclass(frozen=True, eq=False)
class SpectralRule(RobustRule):
    """The plain mean of the updates that no iteration leaves out."""

    iterations: int = 1
    coordinates: int = 10_000
    factor: float = 1.0
    stream: Stream = field(default_factory=lambda: Stream(0))

    def combine(self, updates: Sequence[Update], byzantine: int, memory: Payload) -> tuple[Payload, Payload]:
        """Scores are of the parameters' change; the selection applies to all parts."""
        here, n = self.stream.child("round", updates[0].round), len(updates)
        good = set(range(n))
        for iteration in range(self.iterations if byzantine else 0):
            scores = outlier_scores(self._drawn(updates, here.child(iteration)))
            good &= set(scores.argsort(stable=True)[: n - math.ceil(self.factor * byzantine)].tolist())
        factors = torch.tensor([float(i in good) for i in range(n)], dtype=torch.float64)
        return combined(updates, factors / factors.sum()), memory

    def _drawn(self, updates: Sequence[Update], stream: Stream) -> Tensor:
        """Some coordinates of each update, drawn without repetition: ``(n, b)``."""
        size = updates[0].payload[DELTA].numel()
        index = torch.randperm(size, generator=stream.generator())[: self.coordinates].sort().values
        return torch.stack([update.payload[DELTA].reshape(-1).cpu()[index] for update in updates])
