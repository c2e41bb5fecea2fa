"""The weighted mean with Gaussian noise on the parameters' change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from consilium.core.merge import Aggregator
from consilium.core.random import Stream
from consilium.core.update import Aggregate, Payload, Update
from consilium.federate.round.weighted_mean import WeightedMean

from ._payloads import DELTA

__all__ = ["NoisedMean"]


@dataclass(frozen=True, eq=False)
class NoisedMean(Aggregator):
    """Noise of one ``deviation`` in every coordinate, drawn anew in each round."""

    deviation: float
    stream: Stream

    reads: Literal["sum", "each"] = "sum"

    def merge(
        self, updates: Iterable[Update], memory: Payload, weight: float | None = None
    ) -> tuple[Aggregate, Payload]:
        """The weighted mean of all parts, and the noise."""
        numbers = list[int]()
        aggregate, after = WeightedMean().merge(_noted(updates, numbers), memory, weight)
        here = self.stream.child("round", numbers[0])
        delta = here.noised(aggregate.payload[DELTA], self.deviation)
        return Aggregate({**aggregate.payload, DELTA: delta}, aggregate.weight, aggregate.count), after


def _noted(updates: Iterable[Update], numbers: list[int]) -> Iterator[Update]:
    """``updates``, the round's number of each written to ``numbers``."""
    for update in updates:
        numbers.append(update.round)
        yield update
