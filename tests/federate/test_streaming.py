"""A round whose updates are added one at a time is the round that holds all of them: same bits, less memory."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch

from consilium.attack.poisoning.label_flip import LabelFlip
from consilium.core.errors import Failed
from consilium.core.gradient import Objective
from consilium.core.random import Stream
from consilium.core.records import Pools, Site
from consilium.core.update import Update
from consilium.defend.merge.median import Median
from consilium.defend.update._central_noise import CentralNoise, Quantile
from consilium.defend.update.dp_fed_avg import DPFedAvg
from consilium.defend.update.top_k import TopK
from consilium.federate.algorithms.scaffold import Scaffold
from consilium.federate.client.client_states import SiteStates
from consilium.federate.client.local_rounds import LocalRounds
from consilium.federate.client.participant import SiteState
from consilium.federate.client.participation import Participation
from consilium.federate.engines import pool as pools
from consilium.federate.engines.engine import PhaseWork
from consilium.federate.engines.loop import Loop
from consilium.federate.engines.pool import Pool, why_no_fork
from consilium.federate.engines.stacked import Stacked
from consilium.federate.round.corrupted import Corrupted
from consilium.federate.round.observers import Observers
from consilium.federate.round.round import FederatedRound, RoundState
from consilium.federate.round.run_exchange import run_exchange
from consilium.federate.round.weighted_mean import WeightedMean
from consilium.learn.tasks.single_label import SingleLabel

ROUNDS = 3
pooled = pytest.mark.skipif(why_no_fork() is not None, reason=f"no pool here: {why_no_fork()}")


class Holding(Loop):
    """A loop that has all outboxes at once, as every engine had."""

    streams = False


def of(federation, count=9, **changes):
    """An exchange of ``count`` sites that are like the fixture's three, whose server knows their weights.

    What ``changes`` names of the server half is replaced there, all else in the federation.
    """
    server = {name: changes.pop(name) for name in ("participation", "max_share", "roster") if name in changes}
    exchange = federation(**changes)
    likes = list(exchange.sites.values())
    people = {}
    for k in range(count):
        like = likes[k % len(likes)]
        site = Site(f"site-{k}", Pools(like.train, like.site.records.validation, like.site.records.non_members))
        people[site.id] = replace(like, site=site, participation=server.get("participation", like.participation))
    weights = {name: person.weight for name, person in people.items()}
    half = replace(exchange.half, **{"roster": tuple(people), **server}, weights=weights)
    return FederatedRound(half, LocalRounds(people))


def carried(engine, exchange, network, states=None, rounds=ROUNDS):
    state = RoundState(exchange.half.algorithm.start(network, len(exchange.sites)))
    states = {} if states is None else states
    with engine:
        for number in range(1, rounds + 1):
            state = run_exchange(engine, exchange, state, states, SiteState, f"round {number}")
    return state, states


def check_equal(one, two) -> None:
    (one, mine), (two, theirs) = one, two
    assert torch.equal(one.server.params, two.server.params)
    assert one.server.memory.keys() == two.server.memory.keys()
    assert all(torch.equal(one.server.memory[name], two.server.memory[name]) for name in one.server.memory)
    assert one.merge.keys() == two.merge.keys() and all(torch.equal(one.merge[n], two.merge[n]) for n in one.merge)
    for name in ("cohort", "absent", "dropped", "late", "slow", "aborted", "refused", "shares", "bytes_up"):
        assert getattr(one, name) == getattr(two, name), name
    assert mine.keys() == theirs.keys()
    for site in mine:
        assert mine[site].ledger == theirs[site].ledger
        assert mine[site].algorithm.tensors.keys() == theirs[site].algorithm.tensors.keys()
        for name, tensor in mine[site].algorithm.tensors.items():
            assert torch.equal(tensor, theirs[site].algorithm.tensors[name])


class Bad(LocalRounds):
    """Rounds in which ``faults`` says what some sites send instead; counts who worked."""

    faults: dict = {}

    def site(self, phase, site, inbox, state):
        self.worked = [*getattr(self, "worked", []), site]
        update, after = super().site(phase, site, inbox, state)
        change = self.faults.get(site)
        return (update if change is None else change(update)), after


def faulty(exchange, **faults):
    bad = Bad(exchange.sites)
    bad.faults = {name.replace("_", "-"): change for name, change in faults.items()}
    return FederatedRound(exchange.half, bad)


def scaled(factor):
    return lambda u: replace(u, payload={**u.payload, "delta": u.payload["delta"] * factor})


CASES = {
    "plain": {},
    "cap": {"max_share": 0.2},
    "scaffold": {"algorithm": Scaffold(lr=0.1)},
    "absences": {"participation": Participation(availability=0.8, dropout=0.3, stragglers=0.3, minimum_cohort=2)},
    "too few": {"participation": Participation(minimum_cohort=10)},
    "codec": {"defences": [TopK(share=0.3)]},
    "noise": {
        "defences": [DPFedAvg(noise_multiplier=1.0, quantile=0.5)],
        "merge": CentralNoise(1.0, 1.0, 9.0, Stream(1).child("noise"), Quantile(0.5, 0.2, 1.0)),
    },
}


@pytest.mark.parametrize("case", CASES)
def test_streamed_rounds_have_the_bits_of_held_ones(federation, network, case) -> None:
    exchange = of(federation, **CASES[case])
    assert exchange.streams and Loop().streams and not Holding().streams
    check_equal(carried(Loop(), exchange, network), carried(Holding(), exchange, network))


@pooled
@pytest.mark.parametrize("case", CASES)
def test_so_have_those_of_a_pool(federation, network, case) -> None:
    exchange = of(federation, **CASES[case])
    engine = Pool(Loop(), [exchange.site_half], workers=2)
    assert engine.streams
    check_equal(carried(engine, exchange, network), carried(Holding(), exchange, network))


FAULTS = {
    "not finite": ({"site_4": scaled(float("nan"))}, {"site-4": "not finite"}),
    "several": (
        {"site_0": scaled(float("inf")), "site_8": lambda u: replace(u, weight=5.0)},
        {"site-0": "not finite", "site-8": "the server gives it 7"},
    ),
    "breaks the model": ({"site_0": scaled(1e15)}, {"site-0": "breaks the merged model"}),
    "both": ({"site_2": scaled(1e15), "site_5": scaled(1e30)}, {"site-2": "breaks", "site-5": "no square of that"}),
}


@pytest.mark.parametrize("case", FAULTS)
@pytest.mark.parametrize("kept", [{}, {"algorithm": Scaffold(lr=0.1)}], ids=["fed-avg", "scaffold"])
def test_where_one_is_refused_the_others_are_added_with_their_true_shares(federation, network, case, kept) -> None:
    """They work a second time, from the state that they had: what they keep is what one round makes of it."""
    faults, reasons = FAULTS[case]
    exchange = faulty(of(federation, **kept), **faults)
    streamed = carried(Loop(), exchange, network, rounds=1)
    assert len(exchange.site_half.worked) > 9
    check_equal(streamed, carried(Holding(), exchange, network, rounds=1))
    assert streamed[0].refused.keys() == reasons.keys()
    assert all(reason in streamed[0].refused[site] for site, reason in reasons.items())
    check_equal(carried(Loop(), exchange, network), carried(Holding(), exchange, network))
    healthy = of(federation, **kept)
    left = {name: person for name, person in healthy.sites.items() if name not in reasons}
    alone = FederatedRound(replace(healthy.half, roster=tuple(left)), LocalRounds(left))
    start = RoundState(alone.half.algorithm.start(network, 9))
    without = run_exchange(Loop(), alone, start, {}, SiteState, "round 1")
    assert torch.equal(streamed[0].server.params, without.server.params)


def test_a_good_round_is_worked_once(federation, network) -> None:
    exchange = faulty(of(federation))
    carried(Loop(), exchange, network, rounds=1)
    assert exchange.site_half.worked == list(exchange.sites)


def test_a_round_without_a_usable_update_still_fails(federation, network) -> None:
    exchange = faulty(of(federation), **{f"site_{k}": scaled(float("nan")) for k in range(9)})
    with pytest.raises(Failed, match=r"^round 1\.server: no update of round 1 could be used \(site-0: not finite"):
        carried(Loop(), exchange, network)


class Observed:
    """How many updates are alive at once."""

    def __init__(self) -> None:
        self.alive, self.most = 0, 0

    def add(self, update) -> None:
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(update, self._drop)

    def _drop(self) -> None:
        self.alive -= 1


@pytest.mark.parametrize(("engine", "least", "most"), [(Loop(), 1, 3), (Holding(), 40, 40)])
def test_few_updates_are_in_memory_however_many_sites_there_are(federation, network, engine, least, most) -> None:
    watched = Observed()

    def watch(update):
        watched.add(update)
        return update

    exchange = faulty(of(federation, 40), **{f"site_{k}": watch for k in range(40)})
    gc.collect()
    carried(engine, exchange, network, rounds=1)
    assert least <= watched.most <= most


@pooled
def test_a_pool_runs_ahead_of_the_server_by_a_few(federation, network, monkeypatch) -> None:
    watched, answer = Observed(), pools._Worker.answer

    def answered(worker):
        done = answer(worker)
        for update, _ in done.values():
            watched.add(update)
        return done

    monkeypatch.setattr(pools._Worker, "answer", answered)
    exchange = of(federation, 60)
    carried(Pool(Loop(), [exchange.site_half], workers=2), exchange, network, rounds=1)
    assert watched.most <= 2 * 4 + 2 * 4 + 3, "answers that wait, a share of each worker, and those being added"


def test_what_must_see_each_update_has_all_of_them(federation, network) -> None:
    exchange = of(federation)
    assert not of(federation, merge=Median().merge()).streams
    assert not exchange.watched(Observers(network, 2, SingleLabel(), ())).streams
    assert not Corrupted(exchange, LabelFlip(sites=1), ()).streams
    assert not exchange.served(replace(exchange.half, weights={})).streams, "weights are not known before"
    assert not Stacked().streams


def test_without_known_weights_the_round_is_the_same(federation, network) -> None:
    exchange = of(federation)
    unknown = exchange.served(replace(exchange.half, weights={}))
    check_equal(carried(Loop(), exchange, network), carried(Loop(), unknown, network))


def test_a_mean_that_is_told_the_weight_holds_no_update() -> None:
    updates = [
        Update(f"site-{k}", 1, float(k + 1), {"delta": torch.randn(7, generator=torch.Generator().manual_seed(k))})
        for k in range(5)
    ]
    whole, _ = WeightedMean().merge(updates, {})
    streamed, _ = WeightedMean().merge(iter(updates), {}, 15.0)
    assert torch.equal(whole.payload["delta"], streamed.payload["delta"])
    assert (whole.weight, whole.count) == (streamed.weight, streamed.count) == (15.0, 5)


class Dark(Objective):
    """Fails at a step."""

    def prepare(self, predict, x, y, generator):
        return {"x": x, "y": y}

    def losses(self, predict, batch):
        raise RuntimeError("the lights went out")


def test_an_error_of_a_site_is_not_the_servers(federation, network) -> None:
    exchange = of(federation)
    exchange.sites["site-3"] = replace(exchange.sites["site-3"], objective=Dark())
    with pytest.raises(Failed, match=r"^round 1\.site-3\.step 1 of \d: the lights went out"):
        carried(Loop(), exchange, network)


@pooled
def test_a_pool_goes_on_after_a_round_that_broke_off(federation, network) -> None:
    """The answers that nobody read are not taken for those of the next round."""
    exchange = of(federation, 30)
    start = RoundState(exchange.half.algorithm.start(network, 30))
    cohort, inbox = exchange.open(start)
    with Pool(Loop(), [exchange.site_half], workers=2) as pool:
        held = {site: SiteState() for site in cohort}
        for _ in zip(
            range(3), pool.carry(PhaseWork(exchange.site_half, "round", cohort, inbox, held, "round 1")), strict=False
        ):
            pass
        after = run_exchange(pool, exchange, start, {}, SiteState, "round 1")
    assert torch.equal(after.server.params, carried(Holding(), exchange, network, rounds=1)[0].server.params)


def test_states_on_disk_are_read_as_they_were_before_the_round(federation, network, tmp_path) -> None:
    exchange = faulty(of(federation, algorithm=Scaffold(lr=0.1)), site_4=scaled(float("nan")))
    state, inmemory = RoundState(exchange.half.algorithm.start(network, 9)), {}
    other, ondisk = state, SiteStates(tmp_path / "states", training="t")
    for number in range(1, ROUNDS + 1):
        state = run_exchange(Holding(), exchange, state, inmemory, SiteState, f"round {number}")
        other = run_exchange(Loop(), exchange, other, ondisk, SiteState, f"round {number}")
        ondisk.flush()
        ondisk.settle(number)
    check_equal((state, inmemory), (other, dict(ondisk)))
