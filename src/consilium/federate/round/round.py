"""A federated round: the one-phase exchange.

The server half and the site halves are separate objects that meet only in what they send; the server half holds no
reference to a site, so its code cannot reach a record.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

from consilium.core.algorithm import Algorithm, Broadcast, Server
from consilium.core.defence import UpdateDefence
from consilium.core.errors import Failed
from consilium.core.exchange import Exchange
from consilium.core.merge import Aggregator
from consilium.core.random import Stream
from consilium.core.streamed import Streamed
from consilium.core.task import Task
from consilium.core.update import Aggregate, Payload, Update, wire_bytes
from consilium.federate.client.local_rounds import LocalRounds
from consilium.federate.client.lr_schedule import LRSchedule
from consilium.federate.client.participant import Participant, SiteState
from consilium.federate.client.participation import Attendance, Participation
from consilium.federate.client.root_training import RootTraining

from .admission import Expected, admitted
from .aggregation import Aggregation, Step, weighed
from .model_ema import ModelEMA
from .observers import ObservedRound, Observers
from .soundness import PublicLoss
from .update_stream import Incoming
from .weights import check_weight, fewest_sites, shares

__all__ = ["FederatedRound", "RoundExchange", "RoundState", "ServerHalf"]

_BROKEN = 3
"""A training ends after so many rounds in a row whose merged model is broken by no single site."""


@dataclass(frozen=True, eq=False)
class RoundState:
    """The server-side state between rounds: the server, and the memories of the merge, the adversary and the
    observers.

    Of the last round: ``cohort`` was selected, ``absent`` had joined and was away, ``dropped`` sent nothing,
    ``late`` missed the deadline, ``slow`` did a share of its steps, ``refused`` was rejected, ``rejections`` by the
    engine already; ``aborted`` is the number of usable updates where that was too few, or the fault of the merged
    model, so that the model remained unchanged: for the latter reason in ``broken`` rounds in a row; ``shares`` are
    those of the merge; ``bytes_up`` and ``bytes_down`` is what was sent.
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
    rejections: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    broken: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    def with_rejections(self, rejections: Mapping[str, str]) -> RoundState:
        """This state with the ``rejections`` of an engine before the round, by sender: they count as refused."""
        dropped = tuple(site for site in self.dropped if site not in rejections)
        return replace(self, refused={**rejections, **self.refused}, dropped=dropped)

    def lost(self) -> tuple[str, ...]:
        """The sites of the last round whose work is not in the model."""
        out = {*self.dropped, *self.late, *self.refused}
        return self.cohort if self.aborted else tuple(site for site in self.cohort if site in out)


@dataclass(frozen=True, eq=False)
class ServerHalf:
    """The server's half of a round: the roster, and how one model is made of its sites' updates.

    ``weights`` are the sites' as the server computed them, and ``steps`` the most local steps it planned for each: an
    update that declares others is refused.  No site has more than ``max_share`` of a merge.  ``loss`` judges the merged
    model on public records, and ``root`` trains on them for a rule that compares updates with the server's own.
    """

    roster: tuple[str, ...]
    fraction: float
    algorithm: Algorithm
    merge: Aggregator
    defences: tuple[UpdateDefence, ...]
    classes: int
    task: Task
    stream: Stream
    participation: Participation = field(default_factory=Participation)
    rate: LRSchedule = field(default_factory=LRSchedule)
    average: ModelEMA = field(default_factory=ModelEMA)
    weights: Mapping[str, float] = field(default_factory=dict)
    max_share: float = 1.0
    steps: Mapping[str, int] = field(default_factory=dict)
    loss: PublicLoss | None = None
    root: RootTraining | None = None

    def attendance(self, number: int) -> Attendance:
        """The cohort of round ``number``, and the absent sites."""
        return self.participation.attendance(self.roster, self.fraction, number, self.stream)

    def cohort(self, number: int) -> tuple[str, ...]:
        """The cohort of round ``number``, in the order of the roster."""
        return self.attendance(number).cohort

    def broadcast(self, state: RoundState) -> Broadcast:
        """What every sampled site receives: the algorithm's broadcast and the merge's."""
        sent = self.algorithm.broadcast(state.server)
        extra = self.merge.broadcast_memory(state.merge)
        return replace(sent, extra={**sent.extra, **extra}) if extra else sent

    @property
    def streams(self) -> bool:
        """Whether updates are added one at a time: the rule keeps none, and all weights are known beforehand."""
        return self.merge.streams and self.weights.keys() >= set(self.roster)

    def arrivals(self, answered: Collection[str], state: RoundState) -> tuple[tuple[str, ...], RoundState]:
        """Who of ``answered`` sent in time, and by name those that did not: an engine may lose some, a study others."""
        number = state.server.round + 1
        who, draws = self.attendance(number), self.participation
        dropped = {site for site in who.cohort if site not in answered or draws.drops(site, number, self.stream)}
        lagging = [site for site in answered if site not in dropped and draws.lags(site, number, self.stream)]
        late = {site for site in lagging if draws.misses(site, number, self.stream)}
        return tuple(site for site in answered if site not in dropped | late), replace(
            state,
            cohort=who.cohort,
            absent=who.absent,
            dropped=tuple(site for site in who.cohort if site in dropped),
            late=tuple(site for site in lagging if site in late),
            slow=tuple(site for site in lagging if site not in late),
        )

    def advance(
        self, updates: Mapping[str, Update], state: RoundState, observers: Observers | None = None
    ) -> RoundState:
        """Refuse what is malformed, enforce the server halves, merge, and take the server's step.

        With fewer usable updates than the minimum cohort, or where what they make is no sound model, the model stays as
        it was, and the round counts.  ``observers`` are shown the round as it was.  Raises Failed where no update can
        be used and that is divergence, not one site's fault.
        """
        expected = Expected({**self.algorithm.expects(state.server), **self.merge.expects()}, state.server.params.dtype)
        known = self.weights if self.streams and observers is None else None
        incoming, least = Incoming(updates, self._admission(state, expected), known), self._least()
        step = self._aggregation(state, expected).best(incoming, least)
        self._refuse_divergence(incoming, state)
        refused = incoming.refused | ({} if step is None else dict(step.culprits))
        if step is None or step.fault is not None:
            return self._unchanged(incoming, refused, state, observers, step, least)
        merged = () if observers is None else tuple(weighed(incoming, step.weights))
        return replace(
            state,
            server=step.server,
            merge=step.memory,
            aborted="",
            broken=0,
            refused=refused,
            observed=self._observed(observers, merged, step.aggregate, state),
            shares=shares(step.weights),
        )

    def _least(self) -> int:
        """The fewest updates that make a model."""
        minimum = self.participation.minimum_cohort
        cap = fewest_sites(self.max_share) if self.max_share < 1 else 0
        return max(self.merge.least, minimum if minimum > 1 else 0, cap)

    def _refuse_divergence(self, incoming: Incoming, state: RoundState) -> None:
        """One faulty site may be malicious, many are divergence; the engine's rejections count as the server's."""
        rejections = {site: why for site, why in state.rejections.items() if site in state.cohort}
        reasons = {**rejections, **incoming.refused}
        if not len(incoming) and (len(reasons) > 1 or len(self.roster) == 1):
            details = "; ".join(f"{site}: {why}" for site, why in reasons.items())
            raise Failed(f"no update of round {state.server.round + 1} could be used ({details})")

    def _aggregation(self, state: RoundState, expected: Expected) -> Aggregation:
        """Under masks the fault cannot be attributed.  Where the server's noise covers each site no update is left out
        because of the others: the claim relies on that, and bounds all of them.
        """
        algorithm = self.rate.at(self.algorithm, state.server.round + 1)
        apart, merge = not self.sees_sums and self.merge.least > 0, self.merge
        if self.root is not None:
            merge = merge.at(cache(partial(self.root, state.server)))
        return Aggregation(
            algorithm, merge, self.average, state.server, state.merge, expected, self.max_share, self.loss, apart
        )

    def _unchanged(
        self,
        incoming: Incoming,
        refused: Mapping[str, str],
        state: RoundState,
        observers: Observers | None,
        step: Step | None,
        least: int,
    ) -> RoundState:
        """The state after a round that made no model: that before it."""
        failed_merges, why = 0, f"{len(incoming)} of {least} updates"
        if step is not None:
            failed_merges, why = state.broken + 1, f"the merged model is broken: {step.fault}"
            if failed_merges >= _BROKEN or len(self.roster) == 1:
                raise Failed(
                    f"round {state.server.round + 1}: {why}; no single update is responsible",
                    remedy="use a smaller learning rate (federation.lr), or a norm-bound",
                )
        same = replace(state.server, round=state.server.round + 1)
        lawful = () if observers is None else tuple(incoming)
        observed = self._observed(observers, lawful, None, state)
        return replace(
            state, server=same, aborted=why, broken=failed_merges, refused=refused, observed=observed, shares={}
        )

    def plain(self, updates: Mapping[str, Update], state: RoundState) -> dict[str, Update]:
        """``updates`` as the server reads them, without refused and late ones."""
        in_time, noted = self.arrivals(updates, state)
        expected = Expected({**self.algorithm.expects(state.server), **self.merge.expects()}, state.server.params.dtype)
        incoming = Incoming({site: updates[site] for site in in_time}, self._admission(noted, expected), None)
        return {update.site: update for update in incoming}

    @property
    def sees_sums(self) -> bool:
        """True where updates are masked, so that the server reads their sum alone."""
        return any(defence.stage == "mask" for defence in self.defences)

    def _observed(
        self, observers: Observers | None, lawful: Sequence[Update], aggregate: Aggregate | None, state: RoundState
    ) -> Payload:
        if observers is None:
            return state.observed
        updates = None if self.sees_sums else {update.site: update for update in lawful}
        return observers(ObservedRound(self.broadcast(state), state.cohort, updates, aggregate), state.observed)

    def _admission(self, state: RoundState, expected: Expected) -> Callable[[str, Update], Update]:
        """What makes a plain update of a site's message, or refuses it."""
        extra = self.merge.broadcast_memory(state.merge)
        return partial(
            self._admit, state.server.round + 1, tuple(d.configured_by(extra) for d in self.defences), expected
        )

    def _admit(
        self, number: int, defences: Sequence[UpdateDefence], expected: Expected, site: str, update: Update
    ) -> Update:
        update.check_sender(site, number)
        check_weight(site, update.weight, self.weights)
        plain = admitted(update, defences, expected)
        if site in self.steps:
            self.algorithm.check(plain.payload, self.steps[site])
        return plain


class RoundExchange(Exchange[RoundState, SiteState, Broadcast, Update]):
    """One round of federated training, by honest sites or not."""

    @property
    @abstractmethod
    def honest(self) -> FederatedRound:
        """The round without any adversary inside."""

    @abstractmethod
    def watched(self, observers: Observers) -> RoundExchange:
        """This exchange before the eyes of ``observers``."""


class FederatedRound(RoundExchange):
    """Broadcast, local work, merge; ``observers`` watch, and change nothing."""

    def __init__(self, server: ServerHalf, sites: LocalRounds, observers: Observers | None = None) -> None:
        self.half, self._sites, self._observers = server, sites, observers

    @property
    def site_half(self) -> LocalRounds:
        """Local work."""
        return self._sites

    @property
    def sites(self) -> Mapping[str, Participant]:
        """Those who do it, by name."""
        return self._sites.participants

    @property
    def honest(self) -> FederatedRound:
        """This round."""
        return self

    def watched(self, observers: Observers) -> FederatedRound:
        """This exchange with ``observers``."""
        return FederatedRound(self.half, self._sites, observers)

    def served(self, server: ServerHalf) -> FederatedRound:
        """This exchange with another server half."""
        return FederatedRound(server, self._sites, self._observers)

    @property
    def streams(self) -> bool:
        """As the server half, unless an observer reads the updates."""
        return self._observers is None and self.half.streams

    def open(self, server: RoundState) -> tuple[tuple[str, ...], Broadcast]:
        """The cohort of the next round and the shared model."""
        return self.half.cohort(server.server.round + 1), self.half.broadcast(server)

    def reject(self, server: RoundState, refused: Mapping[str, str]) -> RoundState:
        """The server half records what an engine rejected."""
        return replace(server, rejections=dict(refused))

    def server(
        self, phase: str, outboxes: Mapping[str, Update], server: RoundState
    ) -> tuple[RoundState, Broadcast | None]:
        """Merge; the exchange is over."""
        sent = self.half.broadcast(server)
        size = wire_bytes({"params": sent.params, "buffers": sent.buffers, **sent.extra})
        in_time, noted = self.half.arrivals(outboxes, server)
        counted, sizes = {*in_time, *noted.late}, dict[str, int]()

        def came() -> Iterator[tuple[str, Update]]:
            for site, update in outboxes.items():
                if site in counted:
                    sizes[site] = wire_bytes(update.payload)
                if site in timely:
                    yield site, update

        timely = Streamed(in_time, came)
        after = self.half.advance(timely, noted, self._observers)
        return replace(after, bytes_up=sum(sizes.values()), bytes_down=size * len(noted.cohort)), None
