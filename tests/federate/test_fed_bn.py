"""FedBN against plain modules that exchange state dicts without their normalisation layers."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from consilium.core.algorithm import AlgorithmState
from consilium.core.errors import ConsiliumError, Failed, Refused
from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.update import payload_bytes
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.algorithms.fed_bn import FedBN
from consilium.federate.client.participant import SiteState
from consilium.federate.engines.loop import Loop
from consilium.federate.round.round import RoundState
from consilium.federate.round.run_exchange import run_exchange
from consilium.learn.models.mlp import MLP

FULL = Schedule(3, 2, 0)
OWN = ("1.", "4.")
"""Where the normalisation layers are in ``layered``."""


@pytest.fixture
def layered():
    """Linear, batch norm, linear, layer norm, linear."""
    with scoped(Stream(5)):
        stack = (nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2))
        return Network(nn.Sequential(*stack))


def run(exchange, network, rounds):
    """The state after, what the sites hold, and who took part."""
    state, held, cohorts = RoundState(exchange.half.algorithm.start(network, 3)), {}, []
    for number in range(rounds):
        state = run_exchange(Loop(), exchange, state, held, SiteState, f"round {number + 1}")
        cohorts.append(state.cohort)
    return state, held, cohorts


def plain(network, sites, cohorts, own=OWN):
    """Li et al. 2021, algorithm 1: a module per site; what does not start with ``own`` is averaged by records."""
    people = {site.id: copy.deepcopy(network.template).requires_grad_(True).train() for site in sites}
    records = {site.id: site.records.train for site in sites}
    shared = {name: t.clone() for name, t in network.template.state_dict().items() if not name.startswith(own)}
    for cohort in cohorts:
        total, mean = sum(len(records[k]) for k in cohort), dict.fromkeys(shared, 0.0)
        for k in cohort:
            people[k].load_state_dict(shared, strict=False)
            optimiser = torch.optim.SGD(people[k].parameters(), lr=0.2, momentum=0.5)
            for _ in range(FULL.epochs):
                optimiser.zero_grad()
                F.cross_entropy(people[k](records[k].x), records[k].y).backward()
                optimiser.step()
            for name in shared:
                mean[name] += len(records[k]) / total * people[k].state_dict()[name]
        shared = mean
    for person in people.values():
        person.load_state_dict(shared, strict=False)
    return people


def test_equals_the_pseudocode(federation, layered, sites) -> None:
    """Three rounds of two of the three sites; every site's model, statistics included."""
    algorithm = FedBN(lr=0.2, momentum=0.5).bound(layered)
    exchange = federation(algorithm, FULL, fraction=0.67, network=layered)
    state, held, cohorts = run(exchange, layered, 3)
    people = plain(layered, sites, cohorts)
    for site in sites:
        mine = algorithm.model_for(state.server, held.get(site.id, SiteState()).algorithm)
        theirs = layered.flatten(people[site.id])
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    wrong = layered.flatten(plain(layered, sites, cohorts, own=("1.",))[cohorts[-1][0]])  # LayerNorm shared
    mine = algorithm.model_for(state.server, held[cohorts[-1][0]].algorithm)
    assert not torch.allclose(mine[0], wrong[0], rtol=1e-3, atol=1e-4)  # the comparison can fail


def test_only_the_shared_part_travels(federation, layered) -> None:
    """Of two layers' 32 weights and 17 statistics none leaves; of everything else every byte does."""
    exchange = federation(FedBN(lr=0.2).bound(layered), FULL, network=layered)
    server = exchange.half.algorithm.start(layered, 3)
    inbox = exchange.half.algorithm.broadcast(server)
    update, state = exchange.sites["site-0"].work(inbox, SiteState())
    assert inbox.params.numel() == update.payload["delta"].numel() == layered.size - 4 * 8
    assert update.payload["buffers"].numel() == 0
    assert payload_bytes(update.payload) == 4 * (layered.size - 4 * 8)
    assert {name: t.numel() for name, t in state.algorithm.tensors.items()} == {"params": 32, "buffers": 17}


def test_there_is_no_model_for_everyone_and_a_new_site_has_untrained_layers(layered) -> None:
    algorithm = FedBN().bound(layered)
    server = algorithm.start(layered, 3)
    assert algorithm.model_for(server, None) is None
    torch.testing.assert_close(algorithm.model_for(server, AlgorithmState()), layered.start(), rtol=0, atol=0)


def test_one_site_is_fed_avg(federation, layered, sites) -> None:
    """With one site nothing is averaged, and FedBN is FedAvg."""
    ours = federation(FedBN(lr=0.2).bound(layered), FULL, fraction=0.01, network=layered)
    theirs = federation(FedAvg(lr=0.2), FULL, fraction=0.01, network=layered)
    state, held, _ = run(ours, layered, 1)
    (site,) = state.cohort
    expected, *_ = run(theirs, layered, 1)
    mine = ours.half.algorithm.model_for(state.server, held[site].algorithm)
    torch.testing.assert_close(mine, (expected.server.params, expected.server.buffers), rtol=1e-5, atol=1e-6)


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(Refused, match="normalisation layers"):
        FedBN().bound(Network(MLP(hidden=4).build((6,), 2)))
    bare = nn.Sequential(nn.Linear(6, 2), nn.LayerNorm(2, elementwise_affine=False))
    with pytest.raises(Refused, match="normalisation layers"):
        FedBN().bound(Network(bare))


def test_it_does_not_start_unbound(layered) -> None:
    with pytest.raises(Failed, match="before it was bound"):
        FedBN().start(layered, 3)
    assert issubclass(Failed, ConsiliumError)


def test_bound_it_is_still_the_same_entry(layered) -> None:
    made = FedBN(lr=0.3)
    assert made.bound(layered).configuration() == made.configuration()
    assert made.bound(layered).kind() == "fed-bn"
    assert made.bound(layered).personal
