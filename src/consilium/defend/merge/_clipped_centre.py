"""Centred clipping: the mean of the updates' differences to a centre, each cut to a length.

Source: Karimireddy et al. 2021, arXiv 2012.10333, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.update import Payload, Update

from ._coordinate_trim import middle
from ._payloads import DELTA, by_coordinate, vectors, weighted_sum
from ._robust_rule import RobustRule

__all__ = ["CENTRE", "CentredClippingRule", "clipped_step"]

CENTRE = "clipping-centre"
"""The centre of the coming round, as long as the model's parameters: in the merge's memory."""


def clipped_step(tensors: Sequence[Tensor], centre: Tensor, clip: float) -> Tensor:
    """centre + mean_k (x_k - centre) min(1, clip / ||x_k - centre||)."""
    lengths = [torch.linalg.vector_norm(tensor - centre, dtype=torch.float64) for tensor in tensors]
    factors = (clip / torch.stack(lengths).cpu().clamp(min=clip)) / len(tensors)
    return weighted_sum([*tensors, centre], torch.cat([factors, 1 - factors.sum()[None]]))


@dataclass(frozen=True, eq=False)
class CentredClippingRule(RobustRule):
    """The centre is the last round's aggregate, in the first round the median of each coordinate."""

    clip: float = 1.0
    iterations: int = 1

    def combine(self, updates: Sequence[Update], byzantine: int, memory: Payload) -> tuple[Payload, Payload]:
        """The parameters' change is clipped; of every other part each coordinate has its median."""
        payload = {name: by_coordinate(updates, name, middle) for name in updates[0].payload if name != DELTA}
        centre = memory[CENTRE] if CENTRE in memory else by_coordinate(updates, DELTA, middle)
        for _ in range(self.iterations):
            centre = clipped_step(vectors(updates), centre, self.clip)
        return {name: payload.get(name, centre) for name in updates[0].payload}, {**memory, CENTRE: centre}
