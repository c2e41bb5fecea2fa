"""One merge and the server's step: the state that a round's updates make of the one before it, and whether it is sound.

Where it is not, and one update stands out so far that the model is sound without it, that update is left out, naming
its site; else the fault cannot be attributed, and the round makes no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from consilium.core.algorithm import Algorithm, Server
from consilium.core.merge import Aggregator
from consilium.core.update import Aggregate, Payload, Update

from .admission import Expected
from .model_ema import ModelEMA
from .soundness import PublicLoss, suspects, unsound
from .update_stream import Incoming
from .weights import limited

__all__ = ["Aggregation", "Step", "weighed"]


@dataclass(frozen=True, eq=False)
class Step:
    """The weights of the merged updates, the state after them, what is wrong with it, and who was left out and why."""

    weights: Mapping[str, float]
    aggregate: Aggregate
    memory: Payload
    server: Server
    fault: str | None
    culprits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Aggregation:
    """One round's merge from the state ``before``; with ``blames`` an update that breaks the model is left out."""

    algorithm: Algorithm
    merge: Aggregator
    average: ModelEMA
    before: Server
    memory: Payload
    expected: Expected
    max_share: float
    loss: PublicLoss | None
    blames: bool

    def best(self, updates: Incoming, least: int) -> Step | None:
        """The step of all admitted ``updates``, or without those that break it; None of fewer than ``least``."""
        step = self._of_admitted(updates, least)
        if step is None or step.fault is None or not self.blames:
            return step
        culprits: dict[str, str] = {}
        for site in suspects(updates):
            rest = {other: w for other, w in updates.weights.items() if other not in {*culprits, site}}
            if len(rest) < max(least, 1):
                break
            culprits[site] = f"breaks the merged model: {step.fault}"
            without = self._step(updates, rest)
            if without.fault is None:
                return replace(without, culprits=culprits)
        return step

    def _of_admitted(self, updates: Incoming, least: int) -> Step | None:
        """Shares are those among the admitted: where a reading refused one, the others are merged again."""
        while len(updates) >= least:
            weights = dict(updates.weights)
            step = self._step(updates, weights)
            if updates.weights == weights:
                return step
        updates.read()
        return None

    def _step(self, updates: Iterable[Update], weights: Mapping[str, float]) -> Step:
        weights = limited(weights, self.max_share)
        read = self._or_nobody(weighed(updates, weights))
        aggregate, memory = self.merge.merge(read, self.memory, sum(weights.values()))
        for _ in read:  # what a rule left unread may still be refused
            pass
        server = self.average.after(self.before, self.algorithm.advance(self.before, aggregate))
        return Step(weights, aggregate, memory, server, unsound(self.before, server, self.loss))

    def _or_nobody(self, updates: Iterator[Update]) -> Iterator[Update]:
        first = next(updates, None)
        yield self._nobody() if first is None else first
        del first  # it is in the sum, and as large as the model
        yield from updates

    def _nobody(self) -> Update:
        """The aggregate of an empty round where a merge must go on without an update."""
        device = self.before.params.device
        zeros = {name: torch.zeros(shape, device=device) for name, shape in self.expected.shapes.items()}
        return Update("nobody", self.before.round + 1, 0.0, zeros)


def weighed(updates: Iterable[Update], weights: Mapping[str, float]) -> Iterator[Update]:
    """Those of ``updates`` that ``weights`` names, each with its weight there."""
    for update in updates:
        if update.site in weights:
            weight = weights[update.site]
            yield update if update.weight == weight else replace(update, weight=weight)
