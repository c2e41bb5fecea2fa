"""A federated round: the one-phase exchange.

The server half and the site halves are separate objects that meet only in what they send; the server half holds no
reference to a site, so its code cannot reach a record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from consilium.core.algorithm import Algorithm, Broadcast, Server
from consilium.core.attack import Corruption
from consilium.core.defence import UpdateDefence
from consilium.core.errors import Failed, Refused
from consilium.core.exchange import Exchange
from consilium.core.merge import Merge
from consilium.core.random import Stream
from consilium.core.threat import RoundView
from consilium.core.update import Payload, Update, payload_bytes

from .participant import Participant, SiteState

__all__ = ["Corrupted", "FederatedRound", "RoundExchange", "RoundState", "ServerHalf"]

RoundExchange = Exchange["RoundState", SiteState, Broadcast, Update]


@dataclass(frozen=True, eq=False)
class RoundState:
    """What lives between rounds beside the sites: the server, the merge's memory, the adversary's memory.

    ``refused`` names the updates that the last round turned away, ``bytes_up`` and ``bytes_down`` what it sent.
    """

    server: Server
    merge: Payload = field(default_factory=dict)
    adversary: Payload = field(default_factory=dict)
    cohort: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(frozen=True, eq=False)
class ServerHalf:
    """All that the server knows: who exists, and how to make one model of their updates."""

    roster: tuple[str, ...]
    fraction: float
    algorithm: Algorithm
    merge: Merge
    defences: tuple[UpdateDefence, ...]
    classes: int
    stream: Stream

    def cohort(self, number: int) -> tuple[str, ...]:
        """The sites of round ``number``: max(1, C K) of them without replacement, in the order of the roster."""
        size = max(1, round(self.fraction * len(self.roster)))
        order = torch.randperm(len(self.roster), generator=self.stream.child("cohort", number).generator())
        return tuple(self.roster[i] for i in sorted(order[:size].tolist()))

    def advance(self, updates: Mapping[str, Update], state: RoundState) -> RoundState:
        """Refuse what is malformed, enforce the server halves, merge, and take the server's step."""
        lawful, refused = self._admit(updates, state.server)
        if not lawful:
            reasons = "; ".join(f"{site}: {why}" for site, why in refused.items())
            raise Failed(f"no update of round {state.server.round + 1} could be used ({reasons})")
        aggregate, memory = self.merge.merge(lawful, state.merge)
        server = self.algorithm.advance(state.server, aggregate)
        return replace(
            state,
            server=server,
            merge=memory,
            refused=refused,
            bytes_up=sum(payload_bytes(update.payload) for update in updates.values()),
        )

    def _admit(self, updates: Mapping[str, Update], server: Server) -> tuple[list[Update], dict[str, str]]:
        lawful, refused = [], {}
        for site, update in updates.items():
            try:
                lawful.append(self._enforce(update, site, server))
            except Refused as error:
                refused[site] = error.reason
        return lawful, refused

    def _enforce(self, update: Update, site: str, server: Server) -> Update:
        if update.site != site or update.round != server.round + 1:
            raise Refused(f"claims to be from {update.site!r} in round {update.round}")
        expected = self.algorithm.expects(server)
        for defence in reversed(self.defences):
            update = defence.enforce(update, expected)
        for name, shape in expected.items():
            if name not in update.payload or tuple(update.payload[name].shape) != tuple(shape):
                raise Refused(f"{name} has not the shape {tuple(shape)}")
        unknown = sorted(update.payload.keys() - expected.keys())
        if unknown:
            raise Refused(f"holds {unknown[0]!r}, which nobody asked for")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in update.payload.values()):
            raise Refused("not finite")
        return update


class FederatedRound(RoundExchange):
    """Broadcast, local work, merge."""

    def __init__(self, server: ServerHalf, sites: Mapping[str, Participant]) -> None:
        self.half, self.sites = server, sites

    def open(self, server: RoundState) -> tuple[tuple[str, ...], Broadcast]:
        """The cohort of the next round and the shared model."""
        return self.half.cohort(server.server.round + 1), self.half.algorithm.broadcast(server.server)

    def site(self, phase: str, site: str, inbox: Broadcast, state: SiteState) -> tuple[Update, SiteState]:
        """Local work."""
        return self.sites[site].work(inbox, state)

    def server(
        self, phase: str, outboxes: Mapping[str, Update], server: RoundState
    ) -> tuple[RoundState, Broadcast | None]:
        """Merge; the exchange is over."""
        sent = self.half.algorithm.broadcast(server.server)
        size = payload_bytes({"params": sent.params, "buffers": sent.buffers, **sent.extra})
        after = self.half.advance(outboxes, server)
        return replace(after, cohort=tuple(outboxes), bytes_down=size * len(outboxes)), None


class Corrupted(RoundExchange):
    """An exchange in which some sites collude: what they send is forged together, just before it is sent."""

    def __init__(self, inner: FederatedRound, corruption: Corruption, colluding: Sequence[str]) -> None:
        self.inner, self.corruption, self.colluding = inner, corruption, frozenset(colluding)

    def open(self, server: RoundState) -> tuple[tuple[str, ...], Broadcast]:
        """As without the adversary."""
        return self.inner.open(server)

    def site(self, phase: str, site: str, inbox: Broadcast, state: SiteState) -> tuple[Update, SiteState]:
        """Local work; a colluding site's participant already has its records and objective."""
        return self.inner.site(phase, site, inbox, state)

    def server(
        self, phase: str, outboxes: Mapping[str, Update], server: RoundState
    ) -> tuple[RoundState, Broadcast | None]:
        """Forge the colluders' updates, then merge."""
        own = [update for site, update in outboxes.items() if site in self.colluding]
        if own:
            shared = self.inner.half.algorithm.broadcast(server.server)
            view = RoundView(self.inner.half.classes, shared.round, shared.params, shared.buffers)
            forged, memory = self.corruption.forge(server.adversary, own, view)
            outboxes = {**outboxes, **{update.site: update for update in forged}}
            server = replace(server, adversary=memory)
        return self.inner.server(phase, outboxes, server)
