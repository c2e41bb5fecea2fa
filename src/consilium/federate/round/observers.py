"""Streams the rounds of a training to the adversaries that observe it; no update is stored.

Each gets the view that its position grants, as copies, so it cannot change the training.  Its memory is part of the
training's state, so a killed training resumes with exactly that memory.  An observer counts the rounds it was shown:
the count shows where one was added late, or failed.

Source: Nasr et al. 2019, Comprehensive Privacy Analysis of Deep Learning, arXiv 1812.00910 (passive attackers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from consilium.core.algorithm import Broadcast
from consilium.core.errors import Failed
from consilium.core.network import Network
from consilium.core.records import Records
from consilium.core.round_observer import AggregateRoundView, BroadcastRoundView, RoundObserver, UpdateRoundView
from consilium.core.task import Task
from consilium.core.threat import require
from consilium.core.update import Aggregate, Payload, Update, payload_bytes

__all__ = ["ObservedRound", "Observer", "Observers", "recalled", "rounds_seen"]

_BROKEN = -1
"""The count of an observer that raised: it receives no further rounds."""


@dataclass(frozen=True, eq=False)
class ObservedRound:
    """One round as it passes the server: what was sent to which sites, their updates, and the merge.

    ``updates`` are those admitted, None where they are masked; ``aggregate`` is None in an aborted round.
    """

    broadcast: Broadcast
    cohort: tuple[str, ...]
    updates: Mapping[str, Update] | None
    aggregate: Aggregate | None


@dataclass(frozen=True, eq=False)
class Observer:
    """One observer at its place: ``seat`` is a site's name or None for the server, ``key`` names its memory."""

    key: str
    attack: RoundObserver
    seat: str | None
    candidates: Records
    of: Mapping[str, Tensor]

    def view(self, observed: ObservedRound, network: Network, classes: int, task: Task) -> BroadcastRoundView | None:
        """The view of this position on a round; None where it takes no part."""
        sent = observed.broadcast
        shown = (classes, sent.round, sent.params.clone(), sent.buffers.clone(), network, self.candidates, self.of)
        if self.seat is not None:
            return BroadcastRoundView(*shown, task=task) if self.seat in observed.cohort else None
        if observed.updates is None:
            return AggregateRoundView(*shown, observed.aggregate, task=task)
        updates = {site: _copied(update) for site, update in observed.updates.items()}
        return UpdateRoundView(*shown, updates, task=task)


@dataclass(frozen=True, eq=False)
class Observers:
    """All observers of one training.  ``strict`` raises what one of them raises; else it alone falls silent."""

    network: Network
    classes: int
    task: Task
    observers: tuple[Observer, ...]
    strict: bool = False
    _own: Network = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_own", Network(self.network.template, self.network.compute, self.network.tokens))

    def __call__(self, observed: ObservedRound, memory: Payload) -> dict[str, Tensor]:
        """Every observer's memory after a round; that of an observer which is not here stays as it is."""
        after = dict(memory)
        for observer in self.observers:
            if rounds_seen(memory, observer.key) == observed.broadcast.round - 1:
                observations = self._visible(observer, observed, recalled(memory, observer.key))
                after = {name: tensor for name, tensor in after.items() if not name.startswith(observer.key)}
                after |= _filed(observer.key, observations, observed.broadcast.round)
        return after

    def _visible(self, observer: Observer, observed: ObservedRound, observations: dict[str, Tensor]) -> Payload | None:
        try:
            view = observer.view(observed, self._own, self.classes, self.task)
            if view is None:
                return observations
            require(view, observer.attack.observes, observer.attack.kind())
            after = observer.attack.observe(observations, view)
            if observations and payload_bytes(after) > payload_bytes(observations):
                raise Failed(f"{observer.attack.kind()} stores more with every round", remedy="store sums, not rounds")
            return after
        except Exception:
            if self.strict:
                raise
            return None


def rounds_seen(memory: Payload, key: str) -> int:
    """How many rounds from the first on the observer ``key`` was shown; negative where it broke."""
    return int(memory[key]) if key in memory else 0


def recalled(memory: Payload, key: str) -> dict[str, Tensor]:
    """The memory of the observer ``key``, on the CPU wherever the training is."""
    return {name.removeprefix(f"{key}:"): tensor.cpu() for name, tensor in memory.items() if name.startswith(f"{key}:")}


def _filed(key: str, observations: Payload | None, round: int) -> dict[str, Tensor]:
    if observations is None:
        return {key: torch.tensor(_BROKEN)}
    return {
        key: torch.tensor(round),
        **{f"{key}:{name}": tensor.detach().clone() for name, tensor in observations.items()},
    }


def _copied(update: Update) -> Update:
    payload = {name: tensor.clone() for name, tensor in update.payload.items()}
    return Update(update.site, update.round, update.weight, payload)
