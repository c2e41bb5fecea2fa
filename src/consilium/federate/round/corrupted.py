"""A round in which some sites collude: what they send is forged together, just before it is sent.

What they may read first is what their corruption's threat model grants: the broadcast, the mean of the honest updates,
or every one of them (``core/collusion.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypedDict

import torch
from torch import Tensor

from consilium.core.algorithm import Broadcast
from consilium.core.attack import Corruption
from consilium.core.collusion import AggregateView, ColludingView, OmniscientView
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.task import Task
from consilium.core.threat import RoundView
from consilium.core.update import Payload, Update
from consilium.federate.client.local_rounds import LocalRounds

from .observers import Observers
from .round import FederatedRound, RoundExchange, RoundState
from .weighted_mean import WeightedMean

__all__ = ["Corrupted"]

_CODEC = "codec:"
"""Before the names of what codecs remember of forged updates, among the adversary's memory."""


class _Extra(TypedDict):
    task: Task
    weights: Mapping[str, float]
    stream: Stream


class Corrupted(RoundExchange):
    """An exchange in which some sites collude: what they send is forged together, just before it is sent.

    A colluder obeys no defence (LAWS 4), but a codec is the language of the message: what was forged is encoded, with
    error feedback where the codec has it, since that serves the adversary.  Its residuals are the adversary's memory.
    In rounds other than ``rounds`` nothing is forged; none named stands for all.
    """

    def __init__(
        self, inner: FederatedRound, corruption: Corruption, colluding: Sequence[str], rounds: Collection[int] = ()
    ) -> None:
        if issubclass(corruption.needs, OmniscientView) and inner.half.sees_sums:
            raise Refused(
                f"corruption {corruption.kind()} reads every honest update, and they are masked",
                remedy="leave out the masks, or take a corruption that needs no OmniscientView",
            )
        self.inner, self.corruption, self.colluding = inner, corruption, frozenset(colluding)
        self.rounds = frozenset(rounds)

    @property
    def honest(self) -> FederatedRound:
        """The round that the adversary is in."""
        return self.inner

    @property
    def site_half(self) -> LocalRounds:
        """Local work; a colluding site's participant already has its records and objective."""
        return self.inner.site_half

    def watched(self, observers: Observers) -> Corrupted:
        """This exchange with ``observers``, whose views contain the colluders' forged updates as sent."""
        return Corrupted(self.inner.watched(observers), self.corruption, tuple(self.colluding), self.rounds)

    def open(self, server: RoundState) -> tuple[tuple[str, ...], Broadcast]:
        """As without the adversary."""
        return self.inner.open(server)

    def reject(self, server: RoundState, refused: Mapping[str, str]) -> RoundState:
        """As without the adversary."""
        return self.inner.reject(server, refused)

    def server(
        self, phase: str, outboxes: Mapping[str, Update], server: RoundState
    ) -> tuple[RoundState, Broadcast | None]:
        """Forge the colluders' updates, then merge."""
        colluders = [update for site, update in outboxes.items() if site in self.colluding]
        if colluders and (not self.rounds or server.server.round + 1 in self.rounds):
            view = self._view(outboxes, server)
            theirs, residuals = _apart(server.adversary)
            forged, memory = self.corruption.forge(theirs, colluders, view)
            disguises = {update.site: self._disguise(update, residuals) for update in forged}
            outboxes = {**outboxes, **{site: update for site, (update, _) in disguises.items()}}
            codec_residuals = {name: tensor for _, tensors in disguises.values() for name, tensor in tensors.items()}
            server = replace(server, adversary={**memory, **residuals, **codec_residuals})
        return self.inner.server(phase, outboxes, server)

    def _view(self, outboxes: Mapping[str, Update], server: RoundState) -> RoundView:
        """What the corruption is granted, and no more."""
        half, needs = self.inner.half, self.corruption.needs
        shared = half.broadcast(server)
        known = (half.classes, shared.round, shared.params, shared.buffers)
        if not issubclass(needs, ColludingView):
            return RoundView(*known, task=half.task)
        extra: _Extra = {
            "task": half.task,
            "weights": {site: update.weight for site, update in outboxes.items()},
            "stream": half.stream.child("forging", shared.round),
        }
        if not issubclass(needs, AggregateView):
            return ColludingView(*known, **extra)
        honest = {site: update for site, update in outboxes.items() if site not in self.colluding}
        plain = half.plain(honest, server)
        mean = _mean(tuple(plain.values()))
        if issubclass(needs, OmniscientView):
            return OmniscientView(*known, mean, plain, **extra)
        return AggregateView(*known, mean, **extra)

    def _disguise(self, update: Update, residuals: Payload) -> tuple[Update, Payload]:
        """A forged update as the codecs encode it, and their residuals.  Entries that it lacks are zero."""
        silent = {n: torch.zeros(s) for n, s in self.inner.half.merge.expects().items() if n not in update.payload}
        update = replace(update, payload={**update.payload, **silent}) if silent else update
        residuals_after: dict[str, Tensor] = {}
        for codec in (defence for defence in self.inner.half.defences if defence.stage == "compress"):
            prefix = f"{_CODEC}{update.site}:{codec.kind()}:"
            residual = {
                name.removeprefix(prefix): tensor for name, tensor in residuals.items() if name.startswith(prefix)
            }
            stream = self.inner.half.stream.child("forged", update.site, update.round, codec.kind())
            try:
                update, after = codec.protect(update, residual, stream)
            except Refused:  # the codec cannot encode it: it is sent unchanged, and the server refuses it
                return update, {}
            residuals_after |= {prefix + name: tensor for name, tensor in after.items()}
        return update, residuals_after


def _apart(memory: Payload) -> tuple[Payload, Payload]:
    """The adversary's own memory, and the residuals of what it sent."""
    residuals = {name: tensor for name, tensor in memory.items() if name.startswith(_CODEC)}
    return {name: tensor for name, tensor in memory.items() if name not in residuals}, residuals


def _mean(updates: Sequence[Update]) -> Payload:
    """The weighted mean of each part; empty without updates."""
    return WeightedMean().merge(updates, {})[0].payload if updates else {}
