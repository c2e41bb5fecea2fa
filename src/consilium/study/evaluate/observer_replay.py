"""Attacks that watch a training: at its side while it runs, or at a replay of it when they are added later.

A training's digest knows no attack, so an attack that is added changes no training.  One that did not see every round
is shown them again: the training is run once more from the start (same seed, same engine) in a folder of its own, and
what it remembers counts only if the replay ends in the stored parameters: to the last bit, or within the
relative distance that its engine is good for.

    trainings/<digest>/watched/<attack's digest>.safetensors      a replay's memory
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from consilium.core.algorithm import Server
from consilium.core.errors import Failed, Refused
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Consortium, Records, Site
from consilium.core.round_observer import (
    AggregateRoundView,
    BroadcastRoundView,
    ObservedView,
    RoundObserver,
    UpdateRoundView,
)
from consilium.core.sealed_tensors import read_sealed, write_sealed
from consilium.core.update import Payload
from consilium.federate.checkpoint import load_checkpoint
from consilium.federate.round.observers import Observer, Observers, recalled, rounds_seen
from consilium.federate.round.round import RoundExchange
from consilium.federate.train import train
from consilium.study.build.engine_choice import (
    engine_for,
    engine_record,
    is_deployed,
    tolerance_of,
    write_engine_record,
)
from consilium.study.build.factory import assessing, ever_corrupted, exchange, start
from consilium.study.plan.budget_stop import budget_stop
from consilium.study.plan.checks.observers import honest_sizes
from consilium.study.plan.nodes import TrainingNode
from consilium.study.plan.plan import Materials
from consilium.study.plan.stage_keys import digest

from .release import Released
from .views import candidates

__all__ = ["ObserverReplay"]


@dataclass(frozen=True, eq=False)
class ObserverReplay:
    """One training and those who watch it; ``folder`` is the training's, ``cores`` what a replay may use (0: all)."""

    materials: Materials
    node: TrainingNode
    folder: Path
    cores: int = 0

    def beside(self, whole: RoundExchange, net: Network) -> RoundExchange:
        """``whole`` shown to the observers among the attacks of the study; itself where there are none."""
        observers = {
            digest(a.attack.configuration()): a.attack
            for a in self.node.spec.attacks
            if isinstance(a.attack, RoundObserver)
        }
        places = [place for attack in observers.values() if (place := self._placed(attack, whole)) is not None]
        return self._watched(whole, net, places, strict=False) if places else whole

    def view(self, attack: RoundObserver, model: Released, trained_on: Sequence[str]) -> ObservedView:
        """What ``attack`` is granted after the training; ``trained_on`` are the sites with an update in the model.

        Raises Refused: none of the sites that the attack asks about has an update in the model.
        """
        candidate_set = self._candidate_set(attack)
        there = [rows for site, rows in candidate_set.of.items() if site in trained_on]
        if not there:
            reason = f"no update of {', '.join(candidate_set.of)} is in the model"
            raise Refused(reason, remedy="use more rounds, a larger fraction or another site")
        rows = torch.cat(there).sort().values
        records, member, known = candidate_set.select(rows)
        return ObservedView(
            len(self._data.classes), model.module, records, member, known, rows=rows, task=self._data.task
        )

    def memory(self, attack: RoundObserver) -> Payload:
        """What ``attack`` remembers of every round of the finished training; replayed unless it was there."""
        key = self._key(attack)
        state, _ = load_checkpoint(self.folder / "checkpoint.safetensors", training=self.node.digest)
        if rounds_seen(state.observed, key) == state.server.round:
            return recalled(state.observed, key)
        path, about = self.folder / "watched" / f"{key}.safetensors", {"training": self.node.digest, "attack": key}
        if not path.exists():
            write_sealed(path, self._replayed(attack, state.server), about)
        return read_sealed(path, "what an attack saw", "delete it to watch a replay again", about)[0]

    @property
    def _data(self) -> Consortium:
        return self.materials.consortium(self.node.seed)

    @property
    def _honest(self) -> dict[str, int]:
        """The sites that are honest in every infection: a twin is watched from the same seat, and asked the same."""
        return honest_sizes(self._data, ever_corrupted(self.node.spec, self._data.sites, self.node.seed))

    def _key(self, attack: RoundObserver) -> str:
        """What a memory depends on beside its training: the attack, its seat and whom it asks about."""
        seat, targets = attack.seat(self._honest), sorted(attack.targets(self._honest))
        return digest({"attack": attack.configuration(), "seat": seat, "asked": targets, "drawn": "by id"})

    def _candidate_set(self, attack: RoundObserver) -> _CandidateSet:
        targets = attack.targets(self._honest)
        if self._data.declared:
            raise Refused("the records of these sites are elsewhere", remedy="simulate the study with `run`")
        stream = Stream(self.node.seed).child("candidates")
        return _CandidateSet.of_sites(self._data, targets, stream)

    def _placed(self, attack: RoundObserver, whole: RoundExchange) -> Observer | None:
        """None where it has no place: asked for its finding it says why."""
        try:
            return self._place(attack, whole)
        except Refused:
            return None

    def _place(self, attack: RoundObserver, whole: RoundExchange) -> Observer:
        """``attack`` in its seat; refused where that seat sees less than it needs."""
        seat, candidate_set = attack.seat(self._honest), self._candidate_set(attack)
        granted = _granted(whole, seat)
        if not issubclass(granted, attack.observes):
            raise Refused(
                f"attack {attack.kind()} needs a {attack.observes.__name__} and its seat grants a {granted.__name__}",
                remedy="watch a training whose updates are not masked, or from the server",
            )
        return Observer(self._key(attack), attack, seat, candidate_set.records, candidate_set.of)

    def _watched(
        self, whole: RoundExchange, net: Network, places: Sequence[Observer], *, strict: bool
    ) -> RoundExchange:
        observers = Observers(net, len(self._data.classes), self._data.task, tuple(places), strict)
        return whole.watched(observers)

    def _replayed(self, attack: RoundObserver, stored: Server) -> Payload:
        """The memory of ``attack`` after a replay that ended in the ``stored`` parameters and buffers."""
        node, net, spec = self.node, self.materials.network(self.node.seed, self.node.arm), self.node.spec
        record = engine_record(self.folder) or {}
        if record and is_deployed(record):
            reason = "the training ran on other machines, and an attack that did not watch it cannot see it again"
            raise Refused(reason, remedy="name the attack before training, or simulate the study with `run`")
        whole = exchange(spec, node.arm, node.seed, node.corruption, self._data, net)
        whole = self._watched(whole, net, [self._place(attack, whole)], strict=True)
        judging, begin = assessing(whole), start(spec, node.arm, self._data, net)
        place = self.folder / "watched" / f"{self._key(attack)}.replay"
        write_engine_record(place, record)
        with engine_for(spec.federation.shape, spec.device, whole, judging, begin, place, self.cores) as engine:
            done = train(
                engine, whole, judging, begin, node.rounds, place, _unheard, assess_every=node.rounds,
                stop=budget_stop(node, self._data), name=f"{node.digest}/{place.name}",
            )  # fmt: skip
        _check_same(_vector(done.state.server), _vector(stored), record)
        shutil.rmtree(place)
        return recalled(done.state.observed, self._key(attack))


@dataclass(frozen=True, eq=False)
class _CandidateSet:
    """The candidates of one attack, their membership and their sites: the same during the training and after it."""

    records: Records
    member: Tensor
    known: Tensor
    of: Mapping[str, Tensor]

    @classmethod
    def of_sites(cls, data: Consortium, targets: tuple[str, ...], stream: Stream) -> _CandidateSet:
        """As every membership attack is granted them, of these sites alone."""
        records, member, known = candidates(data, targets, stream)
        target_sites = [site for site in data.sites if site.id in targets]
        home = {i: site.id for site in target_sites for pool in _pools(site) for i in pool.ids.tolist()}
        of: dict[str, list[int]] = {name: [] for name in targets}
        for place, i in enumerate(records.ids.tolist()):
            of[home[i]].append(place)
        return cls(records, member, known, {name: torch.tensor(places).long() for name, places in of.items()})

    def select(self, rows: Tensor) -> tuple[Records, Tensor, Tensor]:
        """Records, membership and knowledge of the candidates at ``rows``."""
        return self.records.select(rows), self.member[rows], self.known[rows]


def _pools(site: Site) -> tuple[Records, Records]:
    return site.records.train, site.records.non_members


def _granted(whole: RoundExchange, seat: str | None) -> type[BroadcastRoundView]:
    """The view of a round that a seat grants."""
    if seat is not None:
        return BroadcastRoundView
    return AggregateRoundView if whole.honest.half.sees_sums else UpdateRoundView


def _vector(server: Server) -> Tensor:
    return torch.cat([server.params, server.buffers]).cpu()


def _check_same(replayed: Tensor, stored: Tensor, record: Mapping[str, object]) -> None:
    distance = float((replayed - stored).norm() / stored.norm().clamp_min(torch.finfo(torch.float32).tiny))
    allowed = tolerance_of(record)
    if not (torch.equal(replayed, stored) or distance <= allowed):
        raise Failed(
            f"the replay of the training ended in another model (relative distance {distance:.2g}, at most "
            f"{allowed:g} with the engine {record.get('kind')}), so what was seen in it is not what happened",
            remedy="train in a new folder with this attack in the study: it then watches while the training runs",
        )


def _unheard(*_: object) -> None:
    """A replay is not a training that anybody follows."""
