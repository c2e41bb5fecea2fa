"""FedAvg against a plain loop written from the pseudocode, to the last bit."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.algorithms.fed_sgd import FedSGD
from consilium.federate.client.participant import SiteState
from consilium.federate.engines.loop import Loop
from consilium.federate.round.round import RoundState
from consilium.federate.round.run_exchange import run_exchange
from consilium.learn.models.resnet9 import ResNet9


def plain_fed_avg(module, sites, rounds, epochs, batch, lr, momentum, weights=None):
    """McMahan et al. 2017, algorithm 1, with torch.optim.SGD; the batches are those that the product draws."""
    weights = weights or [len(s.records.train) for s in sites]
    total = float(sum(weights))
    for number in range(1, rounds + 1):
        start = [p.detach().clone() for p in module.parameters()]
        mean = [torch.zeros_like(p) for p in start]
        for k, site in enumerate(sites):
            local = copy.deepcopy(module)
            with torch.no_grad():
                for p, s in zip(local.parameters(), start, strict=True):
                    p.copy_(s)
            optimiser = torch.optim.SGD(local.parameters(), lr=lr, momentum=momentum)
            own = Stream(11).child("train", site.id, number, "gradient")
            train = site.records.train
            for epoch in range(epochs):
                order = torch.randperm(len(train), generator=own.child("order", epoch).generator())
                for index in order.split(batch):
                    optimiser.zero_grad()
                    F.cross_entropy(local(train.x[index]), train.y[index]).backward()
                    optimiser.step()
            for m, p, s in zip(mean, local.parameters(), start, strict=True):
                delta = p.detach() - s
                m.copy_(delta * (weights[k] / total) if k == 0 else m.add(delta, alpha=weights[k] / total))
        with torch.no_grad():
            for p, s, m in zip(module.parameters(), start, mean, strict=True):
                p.copy_(s + m)
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def ours(exchange, network, rounds):
    state, held = RoundState(exchange.half.algorithm.start(network, 3)), {}
    for number in range(1, rounds + 1):
        state = run_exchange(Loop(), exchange, state, held, SiteState, f"round {number}")
    return state


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_equals_the_pseudocode_to_the_last_bit(federation, network, sites, momentum) -> None:
    exchange = federation(FedAvg(lr=0.1, momentum=momentum), Schedule(3, 2, 8))
    state = ours(exchange, network, 3)
    module = copy.deepcopy(network.template).requires_grad_(True)
    expected = plain_fed_avg(module, sites, 3, 2, 8, 0.1, momentum)
    assert torch.equal(state.server.params, expected)


def test_the_comparison_can_fail(federation, network, sites) -> None:
    """Uniform weights are another algorithm; so the bits above are not equal by construction."""
    state = ours(federation(FedAvg(lr=0.1), Schedule(3, 2, 8)), network, 3)
    module = copy.deepcopy(network.template).requires_grad_(True)
    assert not torch.allclose(state.server.params, plain_fed_avg(module, sites, 3, 2, 8, 0.1, 0.0, [1, 1, 1]))


def test_fed_sgd_is_one_step_on_all_records(federation, network, sites) -> None:
    """The weighted mean of full-batch gradients is the gradient on the union of the records."""
    state = ours(federation(FedSGD(lr=0.5)), network, 1)
    module = copy.deepcopy(network.template).requires_grad_(True)
    x = torch.cat([s.records.train.x for s in sites])
    y = torch.cat([s.records.train.y for s in sites])
    F.cross_entropy(module(x), y).backward()
    expected = torch.cat([(p - 0.5 * p.grad).detach().reshape(-1) for p in module.parameters()])
    torch.testing.assert_close(state.server.params, expected, rtol=1e-5, atol=1e-7)


def test_fed_avg_of_one_full_step_is_fed_sgd(federation, network) -> None:
    one = ours(federation(FedAvg(lr=0.5), Schedule(1, 1, 0)), network, 1)
    other = ours(federation(FedSGD(lr=0.5)), network, 1)
    torch.testing.assert_close(one.server.params, other.server.params, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("steps", [1, 7])
def test_adam_equals_torch(network, federation, sites, steps) -> None:
    exchange = federation(FedAvg(lr=0.01, optimiser="adam"), Schedule(1, steps, 0))
    person = exchange.sites["site-0"]
    inbox = exchange.half.algorithm.broadcast(exchange.half.algorithm.start(network, 3))
    update, _ = person.work(inbox, SiteState())
    module = copy.deepcopy(network.template).requires_grad_(True)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.01)
    train = sites[0].records.train
    for _ in range(steps):
        optimiser.zero_grad()
        F.cross_entropy(module(train.x), train.y).backward()
        optimiser.step()
    expected = torch.cat([p.detach().reshape(-1) for p in module.parameters()]) - inbox.params
    torch.testing.assert_close(update.payload["delta"], expected, rtol=1e-3, atol=2e-6)


def test_batchnorm_buffers_belong_to_each_site(federation, sites) -> None:
    """Each site has its own running statistics, and the server averages what they changed."""
    with scoped(Stream(0)):
        network = Network(ResNet9(width=2, norm="batch").build((1, 8, 8), 2))
    images = [
        s.records.train.x.new_tensor(torch.rand(len(s.records.train), 1, 8, 8).numpy()) * (k + 1) / 3
        for k, s in enumerate(sites)
    ]
    exchange = federation(FedAvg(lr=0.01), Schedule(1, 1, 0), network=network)
    from dataclasses import replace

    for (name, person), x in zip(list(exchange.sites.items()), images, strict=True):
        exchange.sites[name] = replace(person, train=replace(person.train, x=x))
    start = exchange.half.algorithm.start(network, 3)
    inbox = exchange.half.algorithm.broadcast(start)
    before = inbox.buffers.clone()
    updates = {name: p.work(inbox, SiteState())[0] for name, p in exchange.sites.items()}
    assert torch.equal(inbox.buffers, before)
    assert torch.equal(network.start()[1], before)
    one, other = updates["site-0"].payload["buffers"], updates["site-1"].payload["buffers"]
    assert not torch.equal(one, other)
    state = exchange.half.advance(updates, RoundState(start))
    mean = sum(u.weight * u.payload["buffers"] for u in updates.values()) / sum(u.weight for u in updates.values())
    torch.testing.assert_close(state.server.buffers, before + mean)
