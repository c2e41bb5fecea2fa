"""The server half: who takes part, what is refused, and that it cannot reach a record."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from consilium.core.attack import Corruption
from consilium.core.errors import Failed
from consilium.core.gradient import Objective, Schedule
from consilium.core.records import Records
from consilium.core.threat import ThreatModel
from consilium.core.update import Update
from consilium.defend.merge.median import Median
from consilium.defend.update.norm_bound import NormBound
from consilium.federate.engines.loop import Loop
from consilium.federate.participant import SiteState
from consilium.federate.round import Corrupted, RoundState


class Untouchable:
    """Stands where records stood; whoever looks, raises."""

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(f"the server reached for site records ({name})")

    def __len__(self) -> int:
        raise AssertionError("the server counted site records")


def updates(exchange, network):
    inbox = exchange.half.algorithm.broadcast(exchange.half.algorithm.start(network, 3))
    return {name: p.work(inbox, SiteState())[0] for name, p in exchange.sites.items()}


def test_server_code_cannot_reach_site_records(federation, network) -> None:
    exchange = federation(defences=[NormBound(bound=1.0)])
    sent = updates(exchange, network)
    state = RoundState(exchange.half.algorithm.start(network, 3))
    expected, _ = exchange.server("round", sent, state)
    for person in exchange.sites.values():
        object.__setattr__(person, "train", Untouchable())
        vars(person).pop("lesson", None)  # what it keeps of them
        object.__setattr__(person.site, "records", Untouchable())
    exchange.open(state)
    after, _ = exchange.server("round", sent, state)
    assert torch.equal(after.server.params, expected.server.params)
    with pytest.raises((AssertionError, Failed)):
        exchange.site("round", "site-0", exchange.half.algorithm.broadcast(state.server), SiteState())


def test_cohort_is_a_share_and_is_drawn_by_the_round(federation) -> None:
    half = federation(fraction=0.67).half
    cohorts = [half.cohort(number) for number in range(30)]
    assert {len(c) for c in cohorts} == {2}
    assert len(set(cohorts)) == 3
    assert cohorts == [half.cohort(number) for number in range(30)]
    assert len(federation(fraction=0.01).half.cohort(1)) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda u: replace(u, payload={**u.payload, "delta": u.payload["delta"][:-1]}), "shape"),
        (lambda u: replace(u, payload={**u.payload, "delta": u.payload["delta"] * float("nan")}), "finite"),
        (lambda u: replace(u, round=9), "round 9"),
        (lambda u: replace(u, site="site-1"), "claims to be from"),
        (lambda u: replace(u, payload={"buffers": u.payload["buffers"]}), "shape"),
    ],
)
def test_malformed_updates_are_refused_by_name(federation, network, change, reason) -> None:
    exchange = federation()
    sent = updates(exchange, network)
    start = RoundState(exchange.half.algorithm.start(network, 3))
    without = exchange.half.advance({k: u for k, u in sent.items() if k != "site-0"}, start)
    state = exchange.half.advance({**sent, "site-0": change(sent["site-0"])}, start)
    assert set(state.refused) == {"site-0"}
    assert reason in state.refused["site-0"]
    assert torch.equal(state.server.params, without.server.params)


def test_a_round_without_a_usable_update_fails(federation, network) -> None:
    exchange = federation()
    sent = {k: replace(u, round=7) for k, u in updates(exchange, network).items()}
    with pytest.raises(Failed, match="no update of round 1 could be used"):
        exchange.half.advance(sent, RoundState(exchange.half.algorithm.start(network, 3)))


def test_loop_errors_name_round_site_and_stage(federation, network) -> None:
    class Broken(Objective):
        def prepare(self, predict, x, y, generator):
            return {"x": x, "y": y}

        def losses(self, predict, batch):
            raise RuntimeError("the lights went out")

    exchange = federation(objective=Broken())
    with pytest.raises(Failed, match=r"round 1\.site-0\.step 1 of 6: the lights went out"):
        Loop().run(exchange, RoundState(exchange.half.algorithm.start(network, 3)), {}, SiteState, "round 1")


class Boost(Corruption):
    """Sends a hundred times what it learned, and remembers how often it was asked."""

    threat = ThreatModel("site", "training", "white-box", "poisoning")

    def forge(self, memory, updates, view):
        assert [u.site for u in updates] == ["site-0", "site-2"]
        loud = [Update(u.site, u.round, u.weight, {k: 100 * v for k, v in u.payload.items()}) for u in updates]
        return loud, {"asked": memory.get("asked", torch.zeros(())) + 1}


def corrupted(federation, network, **changes):
    exchange = Corrupted(federation(**changes), Boost(sites=2), ("site-0", "site-2"))
    exchange.inner.sites = {  # a corrupted site runs no site half
        name: replace(p, defences=()) if name in exchange.colluding else p for name, p in exchange.inner.sites.items()
    }
    state = RoundState(exchange.inner.half.algorithm.start(network, 3))
    held = {}
    for number in (1, 2):
        state = Loop().run(exchange, state, held, SiteState, f"round {number}")
    return state


def test_colluders_forge_together_once_a_round(federation, network) -> None:
    state = corrupted(federation, network)
    assert float(state.adversary["asked"]) == 2
    honest = RoundState(federation().half.algorithm.start(network, 3))
    assert float((state.server.params - honest.server.params).norm()) > 5


def test_only_the_server_half_of_a_norm_bound_binds_a_corrupted_site(federation, network) -> None:
    start = federation().half.algorithm.start(network, 3).params
    bound = corrupted(federation, network, defences=[NormBound(bound=0.1)])
    assert float((bound.server.params - start).norm()) <= 0.2 + 1e-5


def test_median_ignores_one_loud_site(federation, network) -> None:
    exchange = federation(merge=Median().merge())
    sent = updates(exchange, network)
    start = RoundState(exchange.half.algorithm.start(network, 3))
    loud = replace(sent["site-1"], payload={k: v + 1e6 for k, v in sent["site-1"].payload.items()})
    moved = exchange.half.advance({**sent, "site-1": loud}, start).server.params - start.server.params
    assert float(moved.abs().max()) < 10
    mean = federation().half.advance({**sent, "site-1": loud}, start).server.params - start.server.params
    assert float(mean.abs().max()) > 1e5  # the mean does not


def test_no_two_sites_share_a_tensor(federation, network, sites) -> None:
    exchange = federation(schedule=Schedule(1, 1, 8))
    sent = updates(exchange, network)
    addresses = [t.data_ptr() for u in sent.values() for t in u.payload.values() if t.numel()]
    assert len(addresses) == len(set(addresses))
    assert isinstance(sites[0].records.train, Records)
