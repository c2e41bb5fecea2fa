"""Rounds streamed to those who watch: the same in every engine and after a kill, no more than a seat grants."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import pytest
import torch

from consilium.attack.membership.loss_trajectory import LossTrajectory
from consilium.attack.membership.update_alignment import UpdateAlignment
from consilium.core.attack import Corruption
from consilium.core.defence import UpdateDefence
from consilium.core.errors import Failed, Refused
from consilium.core.gradient import Schedule
from consilium.core.records import Records
from consilium.core.round_observer import AggregateRoundView, BroadcastRoundView, RoundObserver, UpdateRoundView
from consilium.core.threat import ThreatModel
from consilium.core.update import Update, payload_bytes
from consilium.defend.update.norm_bound import NormBound
from consilium.defend.update.top_k import TopK
from consilium.federate.checkpoint import load_checkpoint
from consilium.federate.client.participant import SiteState
from consilium.federate.engines.loop import Loop
from consilium.federate.engines.pool import Pool, why_no_fork
from consilium.federate.engines.stacked import Stacked
from consilium.federate.round.admission import Expected, admitted
from consilium.federate.round.corrupted import Corrupted
from consilium.federate.round.federated_evaluation import Assessing
from consilium.federate.round.observers import Observer, Observers, recalled, rounds_seen
from consilium.federate.round.round import RoundState
from consilium.federate.round.run_exchange import run_exchange
from consilium.federate.train import train
from consilium.learn.tasks.single_label import SingleLabel

ROUNDS = 4
pooled = pytest.mark.skipif(why_no_fork() is not None, reason=f"no pool here: {why_no_fork()}")


def asked(sites):
    """Members and non-members of every site, numbered apart, and where each comes from."""
    pools = [pool for site in sites for pool in (site.records.train, site.records.non_members)]
    whole = Records.of(torch.cat([p.x for p in pools]), torch.cat([p.y for p in pools]))
    sizes = [len(site.records.train) + len(site.records.non_members) for site in sites]
    places = torch.split(torch.arange(sum(sizes)), sizes)
    return whole, {site.id: rows for site, rows in zip(sites, places, strict=True)}


def observers(sites, network, *attacks, strict=True):
    records, of = asked(sites)
    sizes = {site.id: len(site.records.train) for site in sites}
    observers = [Observer(f"key{i}", attack, attack.seat(sizes), records, of) for i, attack in enumerate(attacks)]
    return Observers(network, 2, SingleLabel(), tuple(observers), strict)


BOTH = (UpdateAlignment(), LossTrajectory())


def carried(exchange, network, engine=None, rounds=ROUNDS):
    """The state after some rounds."""
    half = getattr(exchange, "inner", exchange).half
    state, held = RoundState(half.algorithm.start(network, 3)), {}
    with engine or Loop() as carrying:
        for number in range(1, rounds + 1):
            state = run_exchange(carrying, exchange, state, held, SiteState, f"round {number}")
    return state


ENGINES = [
    pytest.param(lambda exchange: Pool(Loop(), [exchange.site_half], workers=2), 0.0, id="pool", marks=pooled),
    pytest.param(lambda exchange: Stacked(), 1e-4, id="stacked"),
]


@pytest.mark.parametrize(("make", "tolerance"), ENGINES)
def test_every_engine_leaves_the_same_memory(make, tolerance, federation, network, sites) -> None:
    watching = observers(sites, network, *BOTH)
    expected = carried(federation().watched(watching), network).observed
    exchange = federation().watched(watching)
    found = carried(exchange, network, make(exchange)).observed
    assert found.keys() == expected.keys() and len(expected) == 7
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=tolerance, atol=tolerance)


def trained(folder, exchange, network, stop_after=None):
    def progress(report, _):
        if report["round"] == stop_after:
            raise KeyboardInterrupt

    start = RoundState(exchange.half.algorithm.start(network, 3))
    judging = Assessing(exchange.half.algorithm, exchange.sites, SingleLabel())
    return train(Loop(), exchange, judging, start, ROUNDS, folder, progress).state


def test_a_killed_training_goes_on_with_the_memory_of_an_unbroken_one(tmp_path, federation, network, sites) -> None:
    exchange = federation().watched(observers(sites, network, *BOTH))
    whole = trained(tmp_path / "whole", exchange, network)
    for stop in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "cut", exchange, network, stop)
    trained(tmp_path / "cut", exchange, network)
    state, _ = load_checkpoint(tmp_path / "cut" / "checkpoint.safetensors")
    assert state.observed.keys() == whole.observed.keys()
    assert all(torch.equal(state.observed[name], tensor) for name, tensor in whole.observed.items())
    assert rounds_seen(state.observed, "key0") == rounds_seen(state.observed, "key1") == ROUNDS


def test_one_that_comes_late_has_not_seen_every_round(tmp_path, federation, network, sites) -> None:
    """It is not shown the rest either: half a memory would pass for a whole one."""
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, federation(), network, 2)
    after = trained(tmp_path, federation().watched(observers(sites, network, *BOTH)), network)
    assert rounds_seen(after.observed, "key0") == 0 and not recalled(after.observed, "key0")


@dataclass(frozen=True)
class Prying(RoundObserver):
    """Keeps the views it is shown, and does in them what it likes."""

    threat = ThreatModel("server", "training", "white-box", "membership")
    observes = BroadcastRoundView
    eyes: str | None = None

    def seat(self, sizes):
        return self.eyes

    def targets(self, sizes):
        return tuple(sizes)

    def observe(self, memory, view):
        SEEN.append(view)
        return {"n": torch.zeros(3)}

    def run(self, view, memory, generator):
        raise NotImplementedError


class Meddling(Prying):
    """Overwrites all it is shown."""

    def observe(self, memory, view):
        view.params.zero_()
        view.network.template.weight = None
        for update in getattr(view, "updates", {}).values():
            for tensor in update.payload.values():
                tensor.zero_()
        torch.manual_seed(1)
        return {}


class Hoarding(Prying):
    """Stores every model."""

    observes = BroadcastRoundView

    def observe(self, memory, view):
        return {**memory, f"round {view.round}": view.params}


class Breaking(Prying):
    """Fails in the second round."""

    def observe(self, memory, view):
        if view.round == 2:
            raise ValueError("I see nothing")
        return {"n": torch.zeros(3)}


SEEN: list[BroadcastRoundView] = []


@pytest.fixture(autouse=True)
def nothing_seen():
    SEEN.clear()


@pytest.mark.parametrize("attacks", [BOTH, (Meddling(),), (Breaking(), Hoarding())], ids=["honest", "meddling", "bad"])
def test_whoever_watches_the_training_is_the_same(attacks, federation, network, sites) -> None:
    expected = carried(federation(), network)
    found = carried(federation().watched(observers(sites, network, *attacks, strict=False)), network)
    assert torch.equal(found.server.params, expected.server.params)
    assert found.bytes_up == expected.bytes_up and not expected.observed


@pytest.mark.parametrize(("attack", "reason"), [(Hoarding(), "stores more"), (Breaking(), "I see nothing")])
def test_one_that_hoards_or_breaks_falls_silent_and_alone(attack, reason, federation, network, sites) -> None:
    state = carried(federation().watched(observers(sites, network, attack, UpdateAlignment(), strict=False)), network)
    assert rounds_seen(state.observed, "key0") == -1 and not recalled(state.observed, "key0")
    assert rounds_seen(state.observed, "key1") == ROUNDS
    with pytest.raises((Failed, ValueError), match=reason):
        carried(federation().watched(observers(sites, network, attack)), network)


def test_memory_does_not_grow_with_the_rounds(federation, network, sites) -> None:
    exchange = federation().watched(observers(sites, network, *BOTH))
    assert len({payload_bytes(carried(exchange, network, rounds=n).observed) for n in (1, 2, 8)}) == 1


def test_the_server_sees_what_it_is_sent_and_no_truth(federation, network, sites) -> None:
    exchange = federation(defences=[NormBound(bound=0.3), TopK(share=0.2)])
    carried(exchange.watched(observers(sites, network, Prying())), network, rounds=1)
    (view,) = SEEN
    assert type(view) is UpdateRoundView and set(view.updates) == {"site-0", "site-1", "site-2"}
    names = {f.name for f in fields(view)}
    assert names == {"classes", "task", "round", "params", "buffers", "network", "candidates", "of", "updates"}
    records, of = asked(sites)
    assert torch.equal(view.candidates.x, records.x) and view.of is not None
    assert view.of.keys() == of.keys()
    held_out = torch.cat([site.records.validation.x for site in sites])
    assert not (view.candidates.x[:, None] == held_out[None]).all(2).any()  # no record of another pool
    begun = exchange.half.algorithm.start(network, 3)
    broadcast = exchange.half.algorithm.broadcast(begun)
    expected = Expected(exchange.half.algorithm.expects(begun), begun.params.dtype)
    for name, update in view.updates.items():  # clipped, sparse, decoded
        delta = update.payload["delta"]
        sent, _ = exchange.sites[name].work(broadcast, SiteState())
        assert torch.equal(delta, admitted(sent, exchange.half.defences, expected).payload["delta"])
        assert float(delta.norm()) <= 0.3 + 1e-5
        assert 0 < int((delta != 0).sum()) <= 0.2 * len(delta) + 1


def test_a_site_sees_what_is_broadcast_to_it_and_nothing_else(federation, network, sites) -> None:
    exchange = federation(fraction=0.67)
    carried(exchange.watched(observers(sites, network, Prying(eyes="site-1"))), network, rounds=9)
    there = [number for number in range(1, 10) if "site-1" in exchange.half.cohort(number)]
    assert [view.round for view in SEEN] == there and 0 < len(there) < 9
    assert {type(view) for view in SEEN} == {BroadcastRoundView}


@dataclass(frozen=True)
class Masked(UpdateDefence):
    """Stands where a mask would."""

    stage = "mask"

    def protect(self, update, memory, stream):
        return update, {}

    def enforce(self, update, expected):
        return update


def test_behind_a_mask_the_server_sees_the_sum_alone(federation, network, sites) -> None:
    exchange = federation(defences=[Masked()])
    plain = carried(federation(), network, rounds=1)
    carried(exchange.watched(observers(sites, network, Prying())), network, rounds=1)
    (view,) = SEEN
    assert type(view) is AggregateRoundView and not hasattr(view, "updates")
    assert torch.allclose(view.params + view.aggregate.payload["delta"], plain.server.params)
    with pytest.raises(Refused, match="needs a UpdateRoundView and was granted a AggregateRoundView"):
        carried(exchange.watched(observers(sites, network, UpdateAlignment())), network, rounds=1)


class Loud(Corruption):
    """Sends ones."""

    threat = ThreatModel("site", "training", "white-box", "poisoning")

    def forge(self, memory, updates, view):
        return [
            Update(u.site, u.round, u.weight, {k: torch.ones_like(v) for k, v in u.payload.items()}) for u in updates
        ], {}


def test_what_colluders_forge_is_what_they_sent(federation, network, sites) -> None:
    exchange = Corrupted(federation(), Loud(sites=1), ("site-2",))
    carried(exchange.watched(observers(sites, network, Prying())), network, rounds=1)
    assert bool((SEEN[0].updates["site-2"].payload["delta"] == 1).all())
    assert not bool((SEEN[0].updates["site-0"].payload["delta"] == 1).any())


def test_an_aborted_round_is_seen_too(federation, network, sites) -> None:
    exchange = federation(schedule=Schedule(1, 1, 8))
    exchange.half = replace(exchange.half, participation=replace(exchange.half.participation, minimum_cohort=4))
    state = carried(exchange.watched(observers(sites, network, Prying())), network, rounds=1)
    assert state.aborted and len(SEEN[0].updates) == 3
