"""Who takes part: pure functions of seed, round and site; what is lost is lost in the model and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import binom

from consilium.core.charge import Composed
from consilium.core.errors import Failed, Refused
from consilium.core.gradient import Schedule
from consilium.core.random import Stream
from consilium.defend.training.dp_sgd import DPSGD
from consilium.federate.algorithms.scaffold import Scaffold
from consilium.federate.client.client_states import SiteStates
from consilium.federate.client.participant import SiteState
from consilium.federate.client.participation import Participation
from consilium.federate.engines.loop import Loop
from consilium.federate.round.round import RoundState
from consilium.federate.round.run_exchange import run_exchange
from consilium.federate.train import merged
from consilium.learn.mean_gradient import MeanGradient

ROSTER = tuple(f"site-{k}" for k in range(40))
STREAM = Stream(5).child("train")
MANY = range(1, 501)


def attend(fraction=0.25, rounds=MANY, roster=ROSTER, stream=STREAM, **knobs):
    made = Participation(**knobs)
    return [made.attendance(roster, fraction, number, stream) for number in rounds]


def likely(successes, trials, chance):
    """Within what a fair coin of ``chance`` does but once in ten thousand times."""
    return binom.ppf(5e-5, trials, chance) <= successes <= binom.ppf(1 - 5e-5, trials, chance)


def test_by_default_a_fixed_share_is_drawn_and_nobody_is_away() -> None:
    rounds = attend()
    assert {len(r.cohort) for r in rounds} == {10}
    assert all(r.absent == () and list(r.cohort) == sorted(r.cohort, key=ROSTER.index) for r in rounds)
    assert likely(sum("site-7" in r.cohort for r in rounds), len(rounds), 0.25)


def test_the_default_draw_is_that_of_a_plain_permutation() -> None:
    order = torch.randperm(40, generator=STREAM.child("cohort", 3).generator())[:10].tolist()
    assert attend(rounds=[3])[0].cohort == tuple(ROSTER[i] for i in sorted(order))


def test_the_same_seed_and_round_give_the_same_and_others_do_not() -> None:
    knobs = {"sampling": "poisson", "availability": 0.8, "late_joiners": 0.3, "join_round": 20}
    assert attend(**knobs) == attend(**knobs)
    assert attend(**knobs) != attend(stream=Stream(6).child("train"), **knobs)
    assert len({r.cohort for r in attend(**knobs)}) > 450


@pytest.mark.parametrize("sampling", ["fixed", "poisson"])
def test_away_is_an_independent_coin_for_each_site_and_round(sampling) -> None:
    rounds = attend(fraction=1.0, availability=0.7, sampling=sampling)
    assert all(set(r.cohort) | set(r.absent) == set(ROSTER) and not set(r.cohort) & set(r.absent) for r in rounds)
    away = [{site for site in ROSTER if site in r.absent} for r in rounds]
    assert all(likely(sum(site in a for a in away), len(away), 0.3) for site in ROSTER)
    assert likely(sum("site-1" in a and "site-2" in a for a in away), len(away), 0.09)
    assert likely(sum("site-1" in a and "site-1" in b for a, b in zip(away[::2], away[1::2], strict=True)), 250, 0.09)


def test_a_fixed_cohort_is_filled_from_those_who_are_there() -> None:
    rounds = attend(availability=0.5)
    assert all(len(r.cohort) == min(10, 40 - len(r.absent)) and not set(r.cohort) & set(r.absent) for r in rounds)


def test_poisson_cohorts_vary_and_may_be_empty() -> None:
    sizes = [len(r.cohort) for r in attend(sampling="poisson")]
    assert likely(sum(sizes), 40 * len(sizes), 0.25)
    assert len(set(sizes)) > 8
    assert 0 in [len(r.cohort) for r in attend(fraction=0.02, sampling="poisson")]
    together = [r.cohort for r in attend(sampling="poisson")]
    assert likely(sum("site-1" in c and "site-2" in c for c in together), len(together), 0.0625)


def test_late_joiners_exist_from_their_round_on_and_are_not_absent_before() -> None:
    rounds = attend(fraction=1.0, late_joiners=0.25, join_round=11)
    before, after = rounds[:10], rounds[10:]
    assert {r.cohort for r in before} == {before[0].cohort} and len(before[0].cohort) == 30
    assert all(r.cohort == ROSTER for r in after) and all(r.absent == () for r in rounds)
    assert len(attend(fraction=0.5, late_joiners=0.5, join_round=9, rounds=[1])[0].cohort) == 10
    assert len(attend(late_joiners=0.9, join_round=9, rounds=[1], roster=("only",))[0].cohort) == 1


def test_dropping_and_lagging_are_coins_that_do_not_depend_on_the_cohort() -> None:
    made = Participation(dropout=0.2, stragglers=0.4)
    drops = [[made.drops(site, number, STREAM) for number in MANY] for site in ROSTER[:3]]
    lags = [[made.lags(site, number, STREAM) for number in MANY] for site in ROSTER[:3]]
    assert all(likely(sum(d), 500, 0.2) for d in drops) and all(likely(sum(m), 500, 0.4) for m in lags)
    assert likely(sum(a and b for a, b in zip(drops[0], drops[1], strict=True)), 500, 0.04)
    assert likely(sum(a and b for a, b in zip(drops[0], lags[0], strict=True)), 500, 0.08)
    assert not any(Participation().drops(site, 1, STREAM) or Participation().lags(site, 1, STREAM) for site in ROSTER)


def test_a_straggler_does_a_share_rounded_up_and_never_more() -> None:
    all_slow = Participation(stragglers=1.0, straggler_work=0.3)
    assert [all_slow.steps(planned, "a", 1, STREAM) for planned in (1, 2, 3, 10, 11)] == [1, 1, 1, 3, 4]
    assert not all_slow.misses("a", 1, STREAM)
    late = Participation(stragglers=1.0)
    assert late.misses("a", 1, STREAM) and late.steps(10, "a", 1, STREAM) == 10


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("availability", 0.0),
        ("availability", 1.1),
        ("dropout", 1.0),
        ("stragglers", -0.1),
        ("straggler_work", 1.0),
        ("late_joiners", 1.0),
        ("join_round", 0),
        ("minimum_cohort", 0),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(knob, value) -> None:
    with pytest.raises(Refused, match="out of range") as refused:
        Participation(**{knob: value})
    assert refused.value.where == knob.replace("_", "-")


@pytest.mark.parametrize("knobs", [{"straggler_work": 0.5}, {"late_joiners": 0.5}, {"join_round": 3}])
def test_a_knob_that_could_do_nothing_is_refused(knobs) -> None:
    with pytest.raises(Refused):
        Participation(**knobs)


def carried(federation, network, rounds=1, participation=None, states=SiteStates, **changes):
    """Rounds as `train` runs them; every state by round, and what the sites keep."""
    participation = participation or Participation()
    exchange = federation(participation=participation, **changes)
    exchange.half = replace(exchange.half, participation=participation)
    state, held = RoundState(exchange.half.algorithm.start(network, 3)), states()
    seen = []
    for number in range(1, rounds + 1):
        state = run_exchange(Loop(), exchange, state, held, SiteState, f"round {number}")
        held.roll_back(state.lost())
        held.settle(number)
        seen.append(state)
    return seen, held


def losing(dropped, number=1, **knobs):
    """A participation that loses exactly ``dropped`` of the three sites in round ``number``."""

    class Rigged(Participation):
        def drops(self, site, at, stream):
            return at == number and site in dropped

    return Rigged(**knobs)


def test_a_lost_update_is_as_if_its_site_had_not_been_there(federation, network) -> None:
    seen, _ = carried(federation, network, participation=losing({"site-1"}))
    exchange = federation()
    start = RoundState(exchange.half.algorithm.start(network, 3))
    inbox = exchange.half.algorithm.broadcast(start.server)
    sent = {s: p.work(inbox, SiteState())[0] for s, p in exchange.sites.items() if s != "site-1"}
    assert torch.equal(seen[0].server.params, exchange.half.advance(sent, start).server.params)
    assert seen[0].dropped == ("site-1",) and seen[0].lost() == ("site-1",)
    whole, _ = carried(federation, network)
    assert not torch.equal(seen[0].server.params, whole[0].server.params)
    assert seen[0].bytes_up < whole[0].bytes_up and seen[0].bytes_down == whole[0].bytes_down


def test_a_late_update_was_sent_and_is_not_merged(federation, network) -> None:
    seen, _ = carried(federation, network, rounds=30, participation=Participation(stragglers=0.4))
    late = [s for s in seen if s.late]
    assert late and all(set(s.late) <= set(s.cohort) and s.lost() == s.late and not s.slow for s in late)
    assert {s.bytes_up for s in seen} == {seen[0].bytes_up}
    assert any(len(s.late) == 3 and s.aborted == "0 of 1 updates" for s in seen)


def test_too_few_updates_abort_the_round_and_change_no_model(federation, network) -> None:
    seen, _ = carried(federation, network, 3, losing({"site-0", "site-2"}, 2, minimum_cohort=2))
    one, two, three = seen
    assert (one.aborted, two.aborted, three.aborted) == ("", "1 of 2 updates", "")
    assert two.server.round == 2 and torch.equal(two.server.params, one.server.params)
    assert not torch.equal(three.server.params, two.server.params)
    assert two.lost() == two.cohort


def test_a_refused_update_counts_as_missing_but_divergence_is_a_failure(federation, network) -> None:
    exchange = federation()
    exchange.half = replace(exchange.half, participation=Participation(minimum_cohort=3))
    start = RoundState(exchange.half.algorithm.start(network, 3))
    inbox = exchange.half.algorithm.broadcast(start.server)
    sent = {s: p.work(inbox, SiteState())[0] for s, p in exchange.sites.items()}
    bad = {s: replace(u, payload={**u.payload, "delta": u.payload["delta"] / 0}) for s, u in sent.items()}
    after = exchange.half.advance({**sent, "site-1": bad["site-1"]}, start)
    assert after.aborted == "2 of 3 updates" and set(after.refused) == {"site-1"}
    assert exchange.half.advance({"site-1": bad["site-1"]}, start).aborted == "0 of 3 updates"
    with pytest.raises(Failed, match="no update of round 1 could be used"):
        exchange.half.advance(bad, start)


def private(federation, network, participation, rounds=4):
    rule = DPSGD(noise_multiplier=2.0, delta=1e-3).rule(MeanGradient())
    return carried(federation, network, rounds, participation, schedule=Schedule(rounds, 2, 7), rule=rule)


def paid(held, site):
    return sum(charge.count for charge in held[site].ledger if isinstance(charge, Composed))


def test_who_worked_has_paid_even_if_nothing_arrived(federation, network) -> None:
    _, whole = private(federation, network, Participation())
    seen, held = private(federation, network, Participation(dropout=0.5, stragglers=0.5, minimum_cohort=3))
    assert any(s.aborted for s in seen) and any(s.dropped for s in seen) and any(s.late for s in seen)
    assert {s: paid(held, s) for s in held} == {s: paid(whole, s) for s in whole}


def test_a_straggler_pays_for_the_steps_it_did_and_no_participation_pays_more_than_planned(federation, network) -> None:
    _, whole = private(federation, network, Participation())
    _, slow = private(federation, network, Participation(stragglers=1.0, straggler_work=0.5))
    for site, n in zip(("site-0", "site-1", "site-2"), (20, 33, 7), strict=True):
        planned = -(-2 * n // 7)
        assert paid(whole, site) == 4 * planned and paid(slow, site) == 4 * -(-planned // 2)
    for sampling in ("fixed", "poisson"):
        knobs = {"availability": 0.6, "dropout": 0.3, "stragglers": 0.5, "late_joiners": 0.4, "join_round": 3}
        for work in (0.0, 0.4):
            _, held = private(federation, network, Participation(sampling, straggler_work=work, **knobs))
            assert all(paid(held, site) <= paid(whole, site) for site in held)


def test_a_partial_update_is_merged_and_is_that_of_fewer_steps(federation, network) -> None:
    seen, _ = carried(federation, network, participation=Participation(stragglers=1.0, straggler_work=0.5))
    assert seen[0].slow == seen[0].cohort and not seen[0].lost()
    halved, _ = carried(federation, network, schedule=Schedule(3, 1, 0))  # of two full-batch steps
    whole = Schedule(3, 2, 0)
    knobs = {"participation": Participation(stragglers=1.0, straggler_work=0.5), "schedule": whole}
    assert torch.equal(carried(federation, network, **knobs)[0][0].server.params, halved[0].server.params)
    assert not torch.equal(carried(federation, network, schedule=whole)[0][0].server.params, halved[0].server.params)


class Forgetful(SiteStates):
    """Keeps what sites learned from work that was lost: the planted fault."""

    def roll_back(self, sites):
        """Nothing."""


@pytest.mark.parametrize("states", [SiteStates, Forgetful])
def test_scaffold_s_variates_stay_in_step_with_the_server_s_whatever_is_lost(federation, network, states) -> None:
    """c is the mean of all c_k after every round, as with no loss; without roll-back it is not."""
    knobs = {"availability": 0.8, "dropout": 0.3, "stragglers": 0.3, "minimum_cohort": 2}
    scaffold = {"algorithm": Scaffold(lr=0.1), "states": states, "weight": 1.0}
    seen, held = carried(federation, network, 12, Participation(**knobs), **scaffold)
    assert any(s.aborted for s in seen) and any(s.late for s in seen) and any(s.dropped for s in seen)
    mean = sum(held[site].algorithm.tensors["control"] for site in held if held[site].algorithm.tensors) / 3
    close = torch.allclose(seen[-1].server.memory["control"], mean, atol=1e-6)
    assert close == (states is SiteStates)


def test_merged_says_whose_work_is_in_the_model() -> None:
    report = {"cohort": ["a", "b", "c", "d"], "dropped": ["a"], "late": ["b"], "refused": [{"site": "c"}]}
    assert merged({**report, "aborted": ""}) == {"d"}
    assert merged({**report, "aborted": "1 of 2 updates"}) == set()
    assert merged({"cohort": ["a", "b"], "refused": []}) == {"a", "b"}  # as older runs wrote it
