"""A federated round: the one-phase exchange.

The server half and the site halves are separate objects that meet only in what they send; the server half holds no
reference to a site, so its code cannot reach a record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from consilium.core.algorithm import Algorithm, Broadcast, Server
from consilium.core.attack import Corruption
from consilium.core.defence import UpdateDefence
from consilium.core.errors import Failed, Refused
from consilium.core.exchange import Exchange
from consilium.core.merge import Merge
from consilium.core.random import Stream
from consilium.core.threat import RoundView
from consilium.core.update import Aggregate, Payload, Update, wire_bytes

from .average import Average
from .observe import Observers, Seen
from .participant import Participant, SiteState
from .participation import Attendance, Participation
from .rate import Rate
from .together import Together, why_not_together

__all__ = ["Corrupted", "FederatedRound", "RoundExchange", "RoundState", "ServerHalf"]

RoundExchange = Exchange["RoundState", SiteState, Broadcast, Update]
_SPOKEN = "codec:"


@dataclass(frozen=True, eq=False)
class RoundState:
    """What lives between rounds beside the sites: the server, the merge's memory, the adversary's memory, and what
    those who watch the training remember.

    Of the last round: ``cohort`` was asked to work, ``absent`` had joined and was away, ``dropped`` sent nothing,
    ``late`` missed the deadline, ``slow`` did a share of its steps, ``refused`` was turned away; ``aborted`` says how
    many updates were usable where that was too few, so that the model stayed as it was; ``bytes_up`` and ``bytes_down``
    is what was sent.
    """

    server: Server
    merge: Payload = field(default_factory=dict)
    adversary: Payload = field(default_factory=dict)
    observed: Payload = field(default_factory=dict)
    cohort: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()
    aborted: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0

    def noting(self, turned: Mapping[str, str]) -> RoundState:
        """This state with what an engine ``turned`` away before the round saw it, by sender: refused, not silent."""
        dropped = tuple(site for site in self.dropped if site not in turned)
        return replace(self, refused={**turned, **self.refused}, dropped=dropped)

    def lost(self) -> tuple[str, ...]:
        """The sites of the last round whose work is not in the model."""
        out = {*self.dropped, *self.late, *self.refused}
        return self.cohort if self.aborted else tuple(site for site in self.cohort if site in out)


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
    participation: Participation = field(default_factory=Participation)
    rate: Rate = field(default_factory=Rate)
    average: Average = field(default_factory=Average)

    def attendance(self, number: int) -> Attendance:
        """Who is asked to work in round ``number``, and who is away."""
        return self.participation.attendance(self.roster, self.fraction, number, self.stream)

    def cohort(self, number: int) -> tuple[str, ...]:
        """The sites that are asked to work in round ``number``, in the order of the roster."""
        return self.attendance(number).cohort

    def broadcast(self, state: RoundState) -> Broadcast:
        """What every sampled site receives: the algorithm's word, and the merge's."""
        sent = self.algorithm.broadcast(state.server)
        told = self.merge.tells(state.merge)
        return replace(sent, extra={**sent.extra, **told}) if told else sent

    def arrivals(self, outboxes: Mapping[str, Update], state: RoundState) -> tuple[dict[str, Update], RoundState]:
        """The updates that came in time, and by name those that did not: an engine may lose some, a study others."""
        number = state.server.round + 1
        who, draws = self.attendance(number), self.participation
        dropped = [site for site in who.cohort if site not in outboxes or draws.drops(site, number, self.stream)]
        sent = {site: update for site, update in outboxes.items() if site not in dropped}
        lagging = [site for site in sent if draws.lags(site, number, self.stream)]
        late = [site for site in lagging if draws.misses(site, number, self.stream)]
        came = {site: update for site, update in sent.items() if site not in late}
        return came, replace(
            state,
            cohort=who.cohort,
            absent=who.absent,
            dropped=tuple(dropped),
            late=tuple(late),
            slow=tuple(site for site in lagging if site not in late),
            bytes_up=sum(wire_bytes(update.payload) for update in sent.values()),
        )

    def advance(
        self, updates: Mapping[str, Update], state: RoundState, observers: Observers | None = None
    ) -> RoundState:
        """Refuse what is malformed, enforce the server halves, merge, and take the server's step.

        With fewer usable updates than the minimum cohort the model stays as it was, and the round counts.
        ``observers`` are shown the round as it was.
        """
        expected = {**self.algorithm.expects(state.server), **self.merge.expects()}
        lawful, refused = self._admit(updates, state, expected)
        if not lawful and (len(refused) > 1 or len(self.roster) == 1):  # one site may be at fault, many are divergence
            reasons = "; ".join(f"{site}: {why}" for site, why in refused.items())
            raise Failed(f"no update of round {state.server.round + 1} could be used ({reasons})")
        least = max(self.merge.least, self.participation.minimum_cohort if self.participation.minimum_cohort > 1 else 0)
        if len(lawful) < least:
            aborted = f"{len(lawful)} of {least} updates"
            same = replace(state.server, round=state.server.round + 1)
            observed = self._observed(observers, lawful, None, state)
            return replace(state, server=same, aborted=aborted, refused=refused, observed=observed)
        aggregate, memory = self.merge.merge(lawful or [_nobody(expected, state.server)], state.merge)
        observed = self._observed(observers, lawful, aggregate, state)
        server = self.rate.at(self.algorithm, state.server.round + 1).advance(state.server, aggregate)
        server = self.average.after(state.server, server)
        return replace(state, server=server, merge=memory, aborted="", refused=refused, observed=observed)

    @property
    def sees_sums(self) -> bool:
        """True where updates are masked, so that the server sees their sum alone."""
        return any(defence.stage == "mask" for defence in self.defences)

    def _observed(
        self, observers: Observers | None, lawful: Sequence[Update], aggregate: Aggregate | None, state: RoundState
    ) -> Payload:
        if observers is None:
            return state.observed
        updates = None if self.sees_sums else {update.site: update for update in lawful}
        return observers(Seen(self.broadcast(state), state.cohort, updates, aggregate), state.observed)

    def _admit(
        self, updates: Mapping[str, Update], state: RoundState, expected: Mapping[str, tuple[int, ...]]
    ) -> tuple[list[Update], dict[str, str]]:
        lawful, refused = [], {}
        told = self.merge.tells(state.merge)
        defences = tuple(defence.hearing(told) for defence in self.defences)
        for site, update in updates.items():
            try:
                update.check_sender(site, state.server.round + 1)
                lawful.append(_enforced(update, defences, expected))
            except Refused as error:
                refused[site] = error.reason
        return lawful, refused


def _enforced(update: Update, defences: Sequence[UpdateDefence], expected: Mapping[str, tuple[int, ...]]) -> Update:
    """What the server halves make of an update; refused where it is not what was ``expected``."""
    for defence in reversed(defences):
        update = defence.enforce(update, expected)
    for name, shape in expected.items():
        if name not in update.payload or tuple(update.payload[name].shape) != tuple(shape):
            raise Refused(f"{name} has not the shape {tuple(shape)}")
    unknown = sorted(update.payload.keys() - expected.keys())
    if unknown:
        raise Refused(f"holds {unknown[0]!r}, which nobody asked for")
    if not all(map(_finite, update.payload.values())):
        raise Refused("not finite")
    return update


def _nobody(expected: Mapping[str, tuple[int, ...]], server: Server) -> Update:
    """What stands for an empty round where a merge must go on without an update."""
    zeros = {name: torch.zeros(shape, device=server.params.device) for name, shape in expected.items()}
    return Update("nobody", server.round + 1, 0.0, zeros)


class FederatedRound(RoundExchange):
    """Broadcast, local work, merge; ``observers`` watch, and change nothing."""

    def __init__(
        self,
        server: ServerHalf,
        sites: Mapping[str, Participant],
        compiled: bool = False,
        observers: Observers | None = None,
    ) -> None:
        self.half, self.sites, self._compiled, self._observers = server, sites, compiled, observers

    def watched(self, observers: Observers) -> FederatedRound:
        """This exchange before the eyes of ``observers``."""
        return FederatedRound(self.half, self.sites, self._compiled, observers)

    @cached_property
    def _stack(self) -> Together:
        """Made where it is used, in a worker perhaps; refused if some site cannot be stacked."""
        refusal = why_not_together(tuple(self.sites.values()))
        if refusal is not None:
            raise refusal
        return Together(next(iter(self.sites.values())), self._compiled)

    def open(self, server: RoundState) -> tuple[tuple[str, ...], Broadcast]:
        """The cohort of the next round and the shared model."""
        return self.half.cohort(server.server.round + 1), self.half.broadcast(server)

    def site(self, phase: str, site: str, inbox: Broadcast, state: SiteState) -> tuple[Update, SiteState]:
        """Local work."""
        return self.sites[site].work(inbox, state)

    def together(
        self, phase: str, sites: Sequence[str], inbox: Broadcast, states: Mapping[str, SiteState]
    ) -> tuple[dict[str, Update], dict[str, SiteState]]:
        """Local work of many at once."""
        done = self._stack.work([self.sites[site] for site in sites], inbox, states)
        return {site: update for site, (update, _) in done.items()}, {site: held for site, (_, held) in done.items()}

    def server(
        self, phase: str, outboxes: Mapping[str, Update], server: RoundState
    ) -> tuple[RoundState, Broadcast | None]:
        """Merge; the exchange is over."""
        sent = self.half.broadcast(server)
        size = wire_bytes({"params": sent.params, "buffers": sent.buffers, **sent.extra})
        came, noted = self.half.arrivals(outboxes, server)
        after = self.half.advance(came, noted, self._observers)
        return replace(after, bytes_down=size * len(noted.cohort)), None


class Corrupted(RoundExchange):
    """An exchange in which some sites collude: what they send is forged together, just before it is sent.

    A colluder obeys no defence (LAWS 4), but a codec is the language of the message: what was forged is encoded, with
    error feedback where the codec has it, since that serves the adversary.  Its residuals are the adversary's memory.
    """

    def __init__(self, inner: FederatedRound, corruption: Corruption, colluding: Sequence[str]) -> None:
        self.inner, self.corruption, self.colluding = inner, corruption, frozenset(colluding)

    def watched(self, observers: Observers) -> Corrupted:
        """This exchange before the eyes of ``observers``, who see what the colluders forge as what they sent."""
        return Corrupted(self.inner.watched(observers), self.corruption, tuple(self.colluding))

    def open(self, server: RoundState) -> tuple[tuple[str, ...], Broadcast]:
        """As without the adversary."""
        return self.inner.open(server)

    def site(self, phase: str, site: str, inbox: Broadcast, state: SiteState) -> tuple[Update, SiteState]:
        """Local work; a colluding site's participant already has its records and objective."""
        return self.inner.site(phase, site, inbox, state)

    def together(
        self, phase: str, sites: Sequence[str], inbox: Broadcast, states: Mapping[str, SiteState]
    ) -> tuple[dict[str, Update], dict[str, SiteState]]:
        """Local work of many at once, colluders among them."""
        return self.inner.together(phase, sites, inbox, states)

    def server(
        self, phase: str, outboxes: Mapping[str, Update], server: RoundState
    ) -> tuple[RoundState, Broadcast | None]:
        """Forge the colluders' updates, then merge."""
        own = [update for site, update in outboxes.items() if site in self.colluding]
        if own:
            shared = self.inner.half.broadcast(server)
            view = RoundView(self.inner.half.classes, shared.round, shared.params, shared.buffers)
            theirs, residuals = _apart(server.adversary)
            forged, memory = self.corruption.forge(theirs, own, view)
            spoken = {update.site: self._spoken(update, residuals) for update in forged}
            outboxes = {**outboxes, **{site: update for site, (update, _) in spoken.items()}}
            kept = {name: tensor for _, held in spoken.values() for name, tensor in held.items()}
            server = replace(server, adversary={**memory, **residuals, **kept})
        return self.inner.server(phase, outboxes, server)

    def _spoken(self, update: Update, residuals: Payload) -> tuple[Update, Payload]:
        """A forged update as the codecs write it, and what they keep of it.  Of what it was not asked it says zero."""
        silent = {n: torch.zeros(s) for n, s in self.inner.half.merge.expects().items() if n not in update.payload}
        update = replace(update, payload={**update.payload, **silent}) if silent else update
        kept: dict[str, Tensor] = {}
        for codec in (defence for defence in self.inner.half.defences if defence.stage == "compress"):
            own = f"{_SPOKEN}{update.site}:{codec.kind()}:"
            held = {name.removeprefix(own): tensor for name, tensor in residuals.items() if name.startswith(own)}
            stream = self.inner.half.stream.child("forged", update.site, update.round, codec.kind())
            try:
                update, after = codec.protect(update, held, stream)
            except Refused:  # nothing that the codec can say: it goes as it is, and the server refuses it
                return update, {}
            kept |= {own + name: tensor for name, tensor in after.items()}
        return update, kept


def _finite(tensor: Tensor) -> bool:
    """In one pass without a copy: the extremes of what holds a NaN are NaN."""
    return not tensor.numel() or all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def _apart(memory: Payload) -> tuple[Payload, Payload]:
    """The adversary's own memory, and the residuals of what it sent."""
    residuals = {name: tensor for name, tensor in memory.items() if name.startswith(_SPOKEN)}
    return {name: tensor for name, tensor in memory.items() if name not in residuals}, residuals
