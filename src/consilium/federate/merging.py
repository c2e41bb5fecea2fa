"""One merge and the server's step: what the updates of a round make of the state before it, and whether that is sound.

Where it is not, and one update stands out so far that the model is sound without it, that update is left out by name;
else nobody can be blamed, and the round makes no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from consilium.core.algorithm import Algorithm, Server
from consilium.core.merge import Merge
from consilium.core.update import Aggregate, Payload, Update

from .admission import Expected
from .average import Average
from .soundness import PublicLoss, suspects, unsound
from .weights import limited

__all__ = ["Merging", "Step"]


@dataclass(frozen=True, eq=False)
class Step:
    """The updates as they were weighed, the state after them, what is wrong with it, and who was left out and why."""

    updates: Sequence[Update]
    aggregate: Aggregate
    memory: Payload
    server: Server
    fault: str | None
    culprits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Merging:
    """One round's merge from the state ``before``; with ``blames`` an update that breaks the model is left out."""

    algorithm: Algorithm
    merge: Merge
    average: Average
    before: Server
    memory: Payload
    expected: Expected
    max_share: float
    loss: PublicLoss | None
    blames: bool

    def best(self, updates: Sequence[Update], least: int) -> Step:
        """The step of all ``updates``, or without those that break it; at least ``least`` stay."""
        step = self._step(updates)
        if step.fault is None or not self.blames:
            return step
        culprits: dict[str, str] = {}
        for site in suspects(updates):
            rest = [update for update in updates if update.site not in {*culprits, site}]
            if len(rest) < least:
                break
            culprits[site] = f"breaks the merged model: {step.fault}"
            without = self._step(rest)
            if without.fault is None:
                return replace(without, culprits=culprits)
        return step

    def _step(self, updates: Sequence[Update]) -> Step:
        weights = limited({update.site: update.weight for update in updates}, self.max_share)
        weighed = [u if u.weight == weights[u.site] else replace(u, weight=weights[u.site]) for u in updates]
        aggregate, memory = self.merge.merge(weighed or [self._nobody()], self.memory)
        server = self.average.after(self.before, self.algorithm.advance(self.before, aggregate))
        return Step(weighed, aggregate, memory, server, unsound(self.before, server, self.loss))

    def _nobody(self) -> Update:
        """What stands for an empty round where a merge must go on without an update."""
        device = self.before.params.device
        zeros = {name: torch.zeros(shape, device=device) for name, shape in self.expected.shapes.items()}
        return Update("nobody", self.before.round + 1, 0.0, zeros)
