"""One site replaces the merged model, in the rounds that are the adversary's, and what a bound leaves of it."""

from __future__ import annotations

from dataclasses import replace

import torch

from consilium.attack.poisoning._anchored import anchored
from consilium.attack.poisoning.model_replacement import ModelReplacement
from consilium.core.algorithm import AlgorithmState, Broadcast
from consilium.core.attack import Corruption
from consilium.core.gradient import Gradient, Objective
from consilium.core.threat import ThreatModel
from consilium.defend.update.norm_bound import NormBound
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.client.local_rounds import LocalRounds
from consilium.federate.client.participant import SiteState
from consilium.federate.engines.loop import Loop
from consilium.federate.round.corrupted import Corrupted
from consilium.federate.round.round import RoundState
from consilium.federate.round.run_exchange import run_exchange
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel


def updates(exchange, network):
    inbox = exchange.half.algorithm.broadcast(exchange.half.algorithm.start(network, 3))
    return {name: p.work(inbox, SiteState())[0] for name, p in exchange.sites.items()}


class Steered(Objective):
    """Labels of one class alone: what an attacker wants the model to learn."""

    def __init__(self):
        self.inner = TaskLoss(SingleLabel())

    def losses(self, predict, batch):
        return self.inner.losses(predict, {**batch, "y": torch.ones_like(batch["y"])})


def replaced(federation, network, entry, idle=True, bad=("site-1",)):
    """The merged model after one round, and that of each colluder by itself; the honest learn nothing if ``idle``."""
    inner = federation()
    for name, person in inner.sites.items():
        if name in bad:
            inner.sites[name] = replace(person, objective=Steered())
        elif idle:
            inner.sites[name] = replace(person, algorithm=replace(person.algorithm, lr=1e-30))
    state = RoundState(inner.half.algorithm.start(network, 3))
    sent = updates(inner, network)
    alone = {name: state.server.params + sent[name].payload["delta"] for name in bad}
    exchange = Corrupted(inner, entry, bad)
    return run_exchange(Loop(), exchange, state, {}, SiteState, "round 1").server.params, alone


def test_one_site_replaces_the_model_whatever_its_weight(federation, network) -> None:
    """33 of 60 records, 20 or 7: where the others send nothing, the merged model is the attacker's."""
    for name in ("site-0", "site-1", "site-2"):
        merged, alone = replaced(federation, network, ModelReplacement(), bad=(name,))
        assert float((merged - alone[name]).abs().max()) < 1e-6
        start = network.start()[0]
        assert float((merged - start).norm()) > 0.1
    unscaled, alone = replaced(federation, network, ModelReplacement(boost=1.0), bad=("site-2",))
    assert torch.allclose(unscaled - start, (alone["site-2"] - start) * 7 / 60, atol=1e-6), "and not without the factor"


def test_two_sites_replace_it_by_their_mean(federation, network) -> None:
    merged, alone = replaced(federation, network, ModelReplacement(sites=2), bad=("site-0", "site-2"))
    expected = (20 * alone["site-0"] + 7 * alone["site-2"]) / 27
    assert float((merged - expected).abs().max()) < 1e-6


def test_a_replacement_within_the_bound_passes_it_unchanged(federation, network) -> None:
    """The defence-aware attacker is cut by nobody: the server's bound leaves its update as it is."""
    sent = []

    class Bound(NormBound):
        def enforce(self, update, expected):
            after = super().enforce(update, expected)
            sent.append((update.site, float(update.payload["delta"].norm()), after is update))
            return after

    for within, whole in ((0.099, True), (None, False)):
        sent.clear()
        exchange = Corrupted(federation(defences=[Bound(bound=0.1)]), ModelReplacement(within=within), ("site-1",))
        exchange.inner.sites["site-1"] = replace(exchange.inner.sites["site-1"], defences=())
        state = RoundState(exchange.inner.half.algorithm.start(network, 3))
        run_exchange(Loop(), exchange, state, {}, SiteState, "round 1")
        assert [unchanged for site, _, unchanged in sent if site == "site-1"] == [whole]


def test_in_other_rounds_nobody_forges(federation, network) -> None:
    asked = []

    class Asked(Corruption):
        threat = ThreatModel("site", "training", "white-box", "poisoning")

        def forge(self, memory, updates, view):
            asked.append(view.round)
            return updates, memory

    exchange = Corrupted(federation(), Asked(sites=1), ("site-0",), rounds=(2, 3))
    assert exchange.watched(None).rounds == {2, 3}
    state, held = RoundState(exchange.inner.half.algorithm.start(network, 3)), {}
    for number in range(1, 5):
        state = run_exchange(Loop(), exchange, state, held, SiteState, f"round {number}")
    assert asked == [2, 3]


def test_a_site_is_another_participant_in_the_rounds_that_are_the_adversarys(federation, network) -> None:
    inner = federation()
    bad = replace(inner.sites["site-1"], objective=Steered())
    local = LocalRounds(inner.sites, substitutes={2: {"site-1": bad}})
    for number, steered in ((1, False), (2, True), (3, False)):
        broadcast = Broadcast(number, *network.start())
        for name, person in inner.sites.items():
            worker = bad if steered and name == "site-1" else person
            expected = worker.work(broadcast, SiteState())[0].payload["delta"]
            assert torch.equal(local.site("round", name, broadcast, SiteState())[0].payload["delta"], expected)
    assert local.why_not_together() is not None and LocalRounds(inner.sites).why_not_together() is None


def test_an_anchored_site_descends_what_it_says(federation, network) -> None:
    """One step by hand: alpha g + (1 - alpha) (w - w_t) / |w - w_t|; alpha = 1 is the algorithm itself."""
    algorithm = FedAvg(lr=0.5)
    assert anchored(algorithm, 1.0) is algorithm
    pulled = anchored(algorithm, 0.25)
    start, buffers = network.start()
    work = pulled.begin(Broadcast(1, start, buffers), AlgorithmState(), 2)
    g = torch.linspace(-1, 1, len(start))
    first = pulled.step(work, Gradient(g, buffers))
    assert torch.allclose(first.params, start - 0.5 * 0.25 * g, atol=1e-7)
    second = pulled.step(first, Gradient(g, buffers))
    apart = first.params - start
    assert torch.allclose(second.params, first.params - 0.5 * (0.25 * g + 0.75 * apart / apart.norm()), atol=1e-6)
    payload, _ = pulled.finish(Broadcast(1, start, buffers), second)
    assert torch.equal(payload["delta"], second.params - start)
    assert replace(pulled, lr=0.1).step(work, Gradient(g, buffers)).params.sub(start).abs().max() < 0.03
