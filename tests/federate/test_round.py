"""The server half: who takes part, what is refused, and that it cannot reach a record."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from consilium.core.attack import Corruption
from consilium.core.collusion import AggregateView, OmniscientView
from consilium.core.errors import Failed, Refused
from consilium.core.gradient import Objective, Schedule
from consilium.core.records import Records
from consilium.core.threat import RoundView, ThreatModel
from consilium.core.update import Update
from consilium.defend.merge.median import Median
from consilium.defend.update.norm_bound import NormBound
from consilium.federate.client.participant import SiteState
from consilium.federate.client.participation import Participation
from consilium.federate.client.vectorised_clients import why_not_vectorised
from consilium.federate.engines.loop import Loop
from consilium.federate.round.corrupted import Corrupted
from consilium.federate.round.round import RoundState
from consilium.federate.round.run_exchange import run_exchange
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel


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
        vars(person).pop("training_inputs", None)  # what it keeps of them
        object.__setattr__(person.site, "records", Untouchable())
    exchange.open(state)
    after, _ = exchange.server("round", sent, state)
    assert torch.equal(after.server.params, expected.server.params)
    with pytest.raises((AssertionError, Failed)):
        exchange.site_half.site("round", "site-0", exchange.half.algorithm.broadcast(state.server), SiteState())


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
        run_exchange(Loop(), exchange, RoundState(exchange.half.algorithm.start(network, 3)), {}, SiteState, "round 1")


class Boost(Corruption):
    """Sends a hundred times what it learned, and remembers how often it was asked."""

    threat = ThreatModel("site", "training", "white-box", "poisoning")

    def forge(self, memory, updates, view):
        assert [u.site for u in updates] == ["site-0", "site-2"]
        loud = [Update(u.site, u.round, u.weight, {k: 100 * v for k, v in u.payload.items()}) for u in updates]
        return loud, {"asked": memory.get("asked", torch.zeros(())) + 1}


def test_the_honest_round_is_the_one_that_the_adversary_is_in(federation):
    inner = federation()
    assert inner.honest is inner and Corrupted(inner, Boost(sites=1), ("site-0",)).honest is inner


def corrupted(federation, network, **changes):
    exchange = Corrupted(federation(**changes), Boost(sites=2), ("site-0", "site-2"))
    for name in exchange.colluding:  # a corrupted site runs no site half
        exchange.inner.sites[name] = replace(exchange.inner.sites[name], defences=())
    state = RoundState(exchange.inner.half.algorithm.start(network, 3))
    held = {}
    for number in (1, 2):
        state = run_exchange(Loop(), exchange, state, held, SiteState, f"round {number}")
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


def test_an_adversary_sees_of_the_honest_what_its_threat_model_grants(federation, network) -> None:
    """The others' updates as the server reads them, or their mean by hand, or neither."""
    views = []

    class Curious(Boost):
        def forge(self, memory, updates, view):
            views.append(view)
            return updates, memory

    exchange = federation()
    sent = updates(exchange, network)
    start = RoundState(exchange.half.algorithm.start(network, 3))
    for needs in (RoundView, AggregateView, OmniscientView):
        Curious.needs = needs
        Corrupted(exchange, Curious(sites=1), ("site-1",)).server("round", sent, start)
    assert [type(view) for view in views] == [RoundView, AggregateView, OmniscientView]
    assert views[2].updates.keys() == {"site-0", "site-2"}
    assert torch.equal(views[2].updates["site-0"].payload["delta"], sent["site-0"].payload["delta"])
    total = sent["site-0"].weight + sent["site-2"].weight
    by_hand = sum(sent[site].weight / total * sent[site].payload["delta"] for site in ("site-0", "site-2"))
    for view in views[1:]:
        assert torch.allclose(view.mean["delta"], by_hand)
    broken = {name: tensor * float("nan") for name, tensor in sent["site-0"].payload.items()}
    loud = {**sent, "site-0": replace(sent["site-0"], payload=broken)}
    Corrupted(exchange, Curious(sites=1), ("site-1",)).server("round", loud, start)
    assert views[3].updates.keys() == {"site-2"}  # what the server refuses is not in its aggregate either
    nobody = Corrupted(exchange, Curious(sites=3), ("site-0", "site-1", "site-2"))
    nobody.server("round", sent, start)
    assert views[4].updates == {} and views[4].mean == {}


def test_masked_updates_are_read_by_no_adversary(federation) -> None:
    class Mask(NormBound):
        stage = "mask"

    class Omniscient(Boost):
        needs = OmniscientView

    masked = federation(defences=[Mask(bound=1.0)])
    with pytest.raises(Refused, match="reads every honest update, and they are masked"):
        Corrupted(masked, Omniscient(sites=1), ("site-1",))
    Omniscient.needs = AggregateView
    Corrupted(masked, Omniscient(sites=1), ("site-1",))  # their sum is what the server sees too


def test_the_others_who_fall_silent_are_not_seen(federation, network) -> None:
    """What nobody sends in time is not part of the aggregate that an adversary reckons with."""
    views = []

    class Omniscient(Boost):
        needs = OmniscientView

        def forge(self, memory, updates, view):
            views.append(view)
            return updates, memory

    exchange = federation()
    exchange = exchange.served(replace(exchange.half, participation=Participation(dropout=0.5)))
    sent = updates(exchange, network)
    seen = set()
    for number in range(12):
        start = RoundState(replace(exchange.half.algorithm.start(network, 3), round=number))
        now = {site: replace(update, round=number + 1) for site, update in sent.items()}
        in_time, _ = exchange.half.arrivals(now, start)
        if len(in_time) > 1:
            Corrupted(exchange, Omniscient(sites=1), ("site-1",)).server("round", now, start)
            assert views[-1].updates.keys() == set(in_time) - {"site-1"}
            seen.add(len(views[-1].updates))
    assert len(seen) > 1


class Pull(Objective):
    """Cross-entropy towards the answers of the broadcast model: what an objective can only do if it reads that."""

    def __init__(self, answers=None):
        self.answers, self.rounds = answers, []

    def for_round(self, params, predict):
        self.rounds.append(params.clone())
        return Pull(predict)

    def losses(self, predict, batch):
        with torch.no_grad():
            wanted = self.answers(batch["x"]).softmax(1)
        return torch.nn.functional.cross_entropy(predict(batch["x"]), wanted, reduction="none")


def test_an_objective_may_read_the_broadcast(federation, network) -> None:
    """Distilling from the model that one starts at moves nowhere at first; from another it would."""
    exchange = federation(objective=Pull())
    sent = updates(exchange, network)
    assert max(float(u.payload["delta"].abs().max()) for u in sent.values()) < 1e-3
    assert all(torch.equal(p, network.start()[0]) for p in exchange.sites["site-0"].objective.rounds)
    honest = updates(federation(), network)
    assert max(float(u.payload["delta"].abs().max()) for u in honest.values()) > 1e-2


class Other(TaskLoss):
    """Another objective that prepares nothing."""


def test_sites_that_train_otherwise_are_not_stacked(federation) -> None:
    """The stack took the first site's objective for all: a corrupted site's own would have been dropped in silence."""
    people = list(federation().sites.values())
    assert why_not_vectorised(people) is None
    odd = replace(people[1], algorithm=replace(people[1].algorithm, lr=people[1].algorithm.lr * 7))
    assert "site-1 trains otherwise than site-0" in str(why_not_vectorised([people[0], odd]))
    assert "trains otherwise" in str(
        why_not_vectorised([people[0], replace(people[1], objective=Other(SingleLabel()))])
    )
    assert "prepares no batches and no rounds" in str(why_not_vectorised([replace(people[1], objective=Pull())]))


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
