"""Ditto: the shared model is FedAvg's to the last bit, the personal ones follow their pseudocode."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from consilium.core.algorithm import AlgorithmState
from consilium.core.gradient import Gradient, Schedule
from consilium.federate.algorithms.ditto import Ditto
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.client.participant import SiteState
from consilium.federate.engines.loop import Loop
from consilium.federate.round.round import RoundState
from consilium.federate.round.run_exchange import run_exchange

ALL = [0, 1, 2, 3]


def run(exchange, network, rounds):
    """The state after, what the sites hold, and who took part."""
    state, held, cohorts = RoundState(exchange.half.algorithm.start(network, 3)), {}, []
    for number in range(rounds):
        state = run_exchange(Loop(), exchange, state, held, SiteState, f"round {number + 1}")
        cohorts.append(state.cohort)
    return state, held, cohorts


@pytest.mark.parametrize("knobs", [{"momentum": 0.9}, {"optimiser": "adam", "lr": 0.01}], ids=str)
def test_the_shared_model_is_fed_avg(federation, network, knobs) -> None:
    """To the last bit, batches included: the first half of the steps are those that FedAvg takes."""
    ours, *_ = run(federation(Ditto(**{"lr": 0.1, **knobs}), Schedule(3, 2, 8), fraction=0.67), network, 3)
    theirs, *_ = run(federation(FedAvg(**{"lr": 0.1, **knobs}), Schedule(3, 2, 8), fraction=0.67), network, 3)
    assert torch.equal(ours.server.params, theirs.server.params)


def plain(network, sites, cohorts, lr, momentum, lam, epochs):
    """Li et al. 2021, algorithm 1, with a module for each personal model and torch.optim.SGD on the bent loss."""
    shared = copy.deepcopy(network.template).requires_grad_(True)
    personal = {}
    records = {site.id: site.records.train for site in sites}
    for cohort in cohorts:
        anchor = [p.detach().clone() for p in shared.parameters()]
        ends, total = [], sum(len(records[k]) for k in cohort)
        for k in cohort:
            local = copy.deepcopy(shared)
            personal.setdefault(k, copy.deepcopy(shared))
            for module, pull in ((local, 0.0), (personal[k], lam)):
                optimiser = torch.optim.SGD(module.parameters(), lr=lr, momentum=momentum)
                for _ in range(epochs):
                    optimiser.zero_grad()
                    loss = F.cross_entropy(module(records[k].x), records[k].y)
                    held = zip(module.parameters(), anchor, strict=True)
                    (loss + pull / 2 * sum((p - a).square().sum() for p, a in held)).backward()
                    optimiser.step()
            ends.append((len(records[k]) / total, local))
        with torch.no_grad():
            for i, p in enumerate(shared.parameters()):
                p.copy_(sum(share * list(local.parameters())[i] for share, local in ends))
    return shared, personal


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_equals_the_pseudocode(federation, network, sites, momentum) -> None:
    exchange = federation(Ditto(lr=0.3, momentum=momentum, lam=0.7), Schedule(3, 4, 0), fraction=0.67)
    state, held, cohorts = run(exchange, network, 3)
    shared, personal = plain(network, sites, cohorts, 0.3, momentum, 0.7, 4)
    torch.testing.assert_close(state.server.params, network.flatten(shared)[0], rtol=1e-5, atol=1e-6)
    assert personal.keys() == held.keys()
    for k, module in personal.items():
        mine, _ = exchange.half.algorithm.model_for(state.server, held[k].algorithm)
        torch.testing.assert_close(mine, network.flatten(module)[0], rtol=1e-5, atol=1e-6)
    _, others = plain(network, sites, cohorts, 0.3, momentum, 0.8, 4)
    wrong = network.flatten(others[cohorts[0][0]])[0]  # another lam: the comparison can fail
    assert not torch.allclose(held[cohorts[0][0]].algorithm.tensors["params"], wrong, rtol=1e-4, atol=1e-4)


def test_without_pull_a_site_trains_alone(quadratics) -> None:
    problem = quadratics()
    _, kept = problem.play(Ditto(lr=0.1, lam=0.0), [ALL] * 60, steps=20)
    for k in ALL:
        torch.testing.assert_close(kept[k].tensors["params"], problem.b[k], rtol=1e-6, atol=1e-6)


def test_a_personal_model_rests_between_its_own_and_the_shared_optimum(quadratics) -> None:
    """(A_k + lam I)^-1 (A_k b_k + lam w), where w is what was broadcast last."""
    problem, lam = quadratics(), 1.5
    before, _ = problem.play(Ditto(lr=0.1, lam=lam), [ALL] * 59, steps=20)
    _, kept = problem.play(Ditto(lr=0.1, lam=lam), [ALL] * 60, steps=20)
    for k in ALL:
        bent = problem.A[k] + lam * torch.eye(5, dtype=torch.float64)
        expected = torch.linalg.solve(bent, problem.A[k] @ problem.b[k] + lam * before.params)
        torch.testing.assert_close(kept[k].tensors["params"], expected, rtol=1e-6, atol=1e-6)


def test_both_halves_are_scheduled_so_both_are_charged() -> None:
    asked = Schedule(3, 2, 8)
    assert Ditto().schedule(asked) == Schedule(3, 4, 8)
    assert (asked.steps(33), Ditto().schedule(asked).steps(33)) == (9, 17)


@pytest.mark.parametrize(("planned", "first"), [(2, 1), (5, 3), (8, 4)])
def test_a_site_that_stops_early_sends_what_it_has(quadratics, planned, first) -> None:
    """Stopped in either half, the shared model's change is sent and the personal model is kept."""
    problem, algorithm = quadratics(), Ditto(lr=0.1)
    sent = algorithm.broadcast(algorithm.start(problem.network, 4))
    own = AlgorithmState({"params": problem.b[0], "buffers": sent.buffers})
    work = algorithm.begin(sent, own, planned)
    shared, personal = sent.params, problem.b[0]
    for step in range(planned):
        gradient = problem.gradient(1, work.params)
        torch.testing.assert_close(work.params, shared if step < first else personal)
        if step < first:
            shared = shared - 0.1 * gradient
        else:
            personal = personal - 0.1 * (gradient + 0.1 * (personal - sent.params))
        work = algorithm.step(work, Gradient(gradient, work.buffers))
        payload, kept = algorithm.finish(sent, work)
        torch.testing.assert_close(payload["delta"], shared - sent.params)
        torch.testing.assert_close(kept.tensors["params"], personal)


def test_a_site_without_its_own_model_gets_the_shared_one(network) -> None:
    algorithm = Ditto()
    server = replace(algorithm.start(network, 3), params=torch.ones(network.size))
    for kept in (None, AlgorithmState()):
        assert torch.equal(algorithm.model_for(server, kept)[0], server.params)
