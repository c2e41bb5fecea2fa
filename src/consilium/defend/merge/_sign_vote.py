"""Robust learning rate: where too few updates agree in sign, the step is taken backwards.

Source: Ozdayi et al. 2021, arXiv 2007.03767, equation 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from consilium.core.errors import Failed
from consilium.core.merge import Aggregator
from consilium.core.update import Aggregate, Payload, Update
from consilium.federate.round.weighted_mean import WeightedMean

from ._payloads import DELTA, check_alike, is_finite

__all__ = ["SignVote"]


@dataclass(frozen=True, eq=False)
class SignVote(Aggregator):
    """The weighted mean, each coordinate of it turned round unless the signs' sum is ``share`` of n or more."""

    share: float = 0.4

    reads: Literal["sum", "each"] = "each"

    @property
    def streams(self) -> bool:
        """It keeps the weighted sum and the sum of the signs."""
        return True

    def merge(
        self, updates: Iterable[Update], memory: Payload, weight: float | None = None
    ) -> tuple[Aggregate, Payload]:
        """Weights count in the mean, not in the vote; what is not finite is in neither.

        Raises Refused: two updates differ in names or shapes.  Raises Failed: none of them is finite.
        """
        votes = _Votes()
        aggregate, _ = WeightedMean().merge(votes.of(updates), {}, 1.0)
        if not votes.total:
            raise Failed(f"none of {votes.count} updates is finite or has a weight", remedy="lower the learning rate")
        agreed = votes.signs.abs() >= self.share * votes.voters
        payload = {name: tensor / votes.total for name, tensor in aggregate.payload.items()}
        payload[DELTA] = torch.where(agreed, payload[DELTA], -payload[DELTA])
        return Aggregate(payload, votes.total, votes.count), memory


class _Votes:
    """Counts while updates pass by."""

    def __init__(self) -> None:
        self.total, self.count, self.voters = 0.0, 0, 0
        self.signs = torch.zeros(0)

    def of(self, updates: Iterable[Update]) -> Iterable[Update]:
        """The finite ones of ``updates``."""
        first: Update | None = None
        for update in updates:
            first = update if first is None else first
            check_alike((first, update))
            self.count += 1
            if is_finite(update):
                self._enter(update.payload[DELTA], update.weight)
                yield update

    def _enter(self, delta: Tensor, weight: float) -> None:
        self.signs = delta.sign() if not self.voters else self.signs.add_(delta.sign())
        self.voters, self.total = self.voters + 1, self.total + weight
