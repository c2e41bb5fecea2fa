"""The contract of every federated algorithm in the catalogue, and a broken one that must fail each clause."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.func import vmap

from consilium.core.algorithm import AlgorithmState
from consilium.core.catalogue import Card, cards, find, load_entry
from consilium.core.charge import Composed
from consilium.core.gradient import Gradient, Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Pools, Records, Site
from consilium.core.update import Aggregate
from consilium.defend.training.dp_sgd import DPSGD
from consilium.federate.algorithms._local import LocalDescent, moved
from consilium.federate.checkpoint import load_checkpoint, save_checkpoint
from consilium.federate.client.client_states import SiteStates
from consilium.federate.client.local_rounds import LocalRounds
from consilium.federate.client.participant import Participant, SiteState
from consilium.federate.engines.loop import Loop
from consilium.federate.engines.stacked import Stacked
from consilium.federate.round.round import FederatedRound, RoundState, ServerHalf
from consilium.federate.round.run_exchange import run_exchange
from consilium.federate.round.weighted_mean import WeightedMean
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

ROOM = "federate/algorithms"
ASKED = Schedule(4, 2, 16)
STEPS = 4
KNOBS = {"fed-adam": {"server_lr": 0.1}, "fed-yogi": {"server_lr": 0.1}, "fed-avg-m": {"server_momentum": 0.5}}
"""Twenty rounds are few: what is slow by default, or still swings, is set for a short training."""


def records(n, seed):
    """Two classes, told apart by two of six features."""
    x = torch.rand(n, 6, generator=torch.Generator().manual_seed(seed))
    return Records.of(x, (x[:, 0] + 0.3 * x[:, 1] > 0.6).long())


SITES = tuple(Site(f"site-{k}", Pools(*(records(n, k + i) for i in (0, 50, 90)))) for k, n in enumerate((40, 60, 20)))


def network(batch=True):
    """With normalisation layers of both kinds, or without running statistics (DP refuses those)."""
    with scoped(Stream(5)):
        first = nn.BatchNorm1d(8) if batch else nn.LayerNorm(8)
        return Network(
            nn.Sequential(nn.Linear(6, 8), first, nn.ReLU(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2))
        )


def federation(algorithm, net, rule=None, fraction=0.67):
    """A federated round over the sites, ready to run."""
    rule, stream = rule or MeanGradient(), Stream(11).child("train")
    algorithm = algorithm.bound(net)
    schedule = rule.schedule(algorithm.schedule(ASKED))
    people = {
        s.id: Participant(
            s, s.records.train, 1.0, net, algorithm, TaskLoss(SingleLabel()), rule, schedule, (), stream
        )
        for s in SITES
    }  # fmt: skip
    half = ServerHalf(tuple(people), fraction, algorithm, WeightedMean(), (), 2, SingleLabel(), stream)
    return FederatedRound(half, LocalRounds(people)), RoundState(algorithm.start(net, len(SITES)))


def played(exchange, state, rounds, held=None, engine=None):
    """The state and what the sites hold after more rounds."""
    held = SiteStates() if held is None else held
    for _ in range(rounds):
        state = run_exchange(engine or Loop(), exchange, state, held, SiteState, f"round {state.server.round + 1}")
    return state, held


def tensors(state, held):
    """Everything that a training is made of, by name."""
    named = {"params": state.server.params, "buffers": state.server.buffers, **state.server.memory}
    return named | {f"{site} {k}": t for site in sorted(held) for k, t in held[site].algorithm.tensors.items()}


def alike(one, other, **tolerance):
    """Equal tensors by name: to the last bit unless a tolerance is given."""
    tolerance = tolerance or {"rtol": 0, "atol": 0}
    assert one.keys() == other.keys(), f"{sorted(one)} and {sorted(other)}"
    different = [name for name in one if not torch.allclose(one[name], other[name], **tolerance)]
    assert not different, f"{different} differ"


def gradients(count, size, buffers):
    """Made-up gradients ``(count, STEPS, size)`` and buffers."""
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(count, STEPS, size, generator=generator),
        torch.rand(count, STEPS, buffers, generator=generator),
    )


def worked(algorithm, sent, kept, values, buffers, steps=STEPS):
    """begin, steps and finish along made-up gradients: (payload, what is kept), as plain dicts."""
    work = algorithm.begin(sent, AlgorithmState(kept), steps)
    for i in range(steps):
        work = algorithm.step(work, Gradient(values[i], buffers[i]))
    payload, after = algorithm.finish(sent, work)
    return dict(payload), dict(after.tensors)


def after_two_rounds(algorithm, net):
    """A bound algorithm, its server after two rounds of all sites, and what they keep."""
    exchange, state = federation(algorithm, net, fraction=1.0)
    state, held = played(exchange, state, 2)
    return exchange.half.algorithm, state.server, [dict(held[s.id].algorithm.tensors) for s in SITES]


def same_seed_same_result(card, entry, contract):
    """And an earlier run or a global generator changes nothing."""
    torch.manual_seed(98)
    first = played(*federation(entry, network()), 3)
    torch.manual_seed(99)
    alike(tensors(*first), tensors(*played(*federation(entry, network()), 3)))


def touches_nothing(card, entry, contract):
    """What is handed in stays as it was: state is explicit."""
    net = network()
    algorithm, server, kept = after_two_rounds(entry, net)
    values, buffers = gradients(1, net.size, net.start()[1].numel())
    sent, own = algorithm.broadcast(server), [t for held in kept for t in held.values()]
    given = [server.params, server.buffers, *server.memory.values(), *own, values, buffers, *sent.extra.values()]
    with contract.untouched(*given, sent.params, sent.buffers):
        payload, _ = worked(algorithm, sent, kept[0], values[0], buffers[0])
        algorithm.model_for(server, AlgorithmState(kept[0]))
    with contract.untouched(*given, *payload.values()):
        algorithm.advance(server, Aggregate(payload, 2.0, 2))


def sends_what_it_expects(card, entry, contract):
    """Names, shapes and finite numbers, in the first round and later."""
    net = network()
    values, buffers = gradients(1, net.size, net.start()[1].numel())

    def judge(algorithm, server, kept):
        payload, _ = worked(algorithm, algorithm.broadcast(server), kept, values[0], buffers[0])
        assert {name: tuple(t.shape) for name, t in payload.items()} == dict(algorithm.expects(server))
        assert all(t.isfinite().all() for t in payload.values())

    bound = entry.bound(net)
    judge(bound, bound.start(net, 3), {})
    algorithm, server, kept = after_two_rounds(entry, net)
    judge(algorithm, server, kept[0])


def begins_alike_everywhere(card, entry, contract):
    """A new site's work holds what an old one's holds: so both fit into one stack."""
    net = network()
    algorithm, server, kept = after_two_rounds(entry, net)
    sent = algorithm.broadcast(server)
    new, old = (algorithm.begin(sent, AlgorithmState(own), STEPS) for own in ({}, kept[0]))
    assert {k: t.shape for k, t in new.memory.items()} == {k: t.shape for k, t in old.memory.items()}
    for work in (new, old):
        assert (work.steps, work.planned) == (0, STEPS)
        assert (work.params.numel(), work.buffers.numel()) == tuple(t.numel() for t in net.start())


def works_on_a_stack(card, entry, contract):
    """begin, step and finish of three sites under vmap are those of each alone."""
    net = network()
    algorithm, server, kept = after_two_rounds(entry, net)
    sent = algorithm.broadcast(server)
    values, buffers = gradients(3, net.size, net.start()[1].numel())
    stacked = {name: torch.stack([own[name] for own in kept]) for name in kept[0]}
    try:
        sites = vmap(lambda own, g, b: worked(algorithm, sent, own, g, b))(stacked, values, buffers)
    except RuntimeError as error:
        raise AssertionError(f"it does not run under vmap: {error}") from error
    for k in range(3):
        alone = worked(algorithm, sent, kept[k], values[k], buffers[k])
        for one, other in zip(alone, sites, strict=True):
            alike(one, {name: t[k] for name, t in other.items()}, rtol=1e-6, atol=1e-7)


def survives_a_restart(card, entry, contract):
    """Stopped after two rounds and read back from its checkpoint, it ends as if it had not been."""
    exchange, start = federation(entry, network())
    whole = played(exchange, start, 4)
    state, held = played(exchange, start, 2)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.safetensors"
        save_checkpoint(path, state, held)
        state, held = load_checkpoint(path)
    alike(tensors(*whole), tensors(*played(exchange, state, 2, held)))


def learns(card, entry, contract):
    """A planted signal: after 20 rounds the sites' models are better than the untrained one."""
    exchange, start = federation(entry, network(batch=False), fraction=1.0)
    state, held = played(exchange, start, 20)
    algorithm, net = exchange.half.algorithm, network(batch=False)

    def loss(server, own):
        found = [algorithm.model_for(server, own(site)) for site in SITES]
        pools = [site.records.validation for site in SITES]
        judged = [nn.functional.cross_entropy(net.logits(*m, p.x), p.y) for m, p in zip(found, pools, strict=True)]
        return float(sum(judged) / 3)

    before = loss(start.server, lambda site: AlgorithmState())
    assert loss(state.server, lambda site: held[site.id].algorithm) < 0.9 * before


def says_if_it_is_personal(card, entry, contract):
    """Sites' own models differ exactly where it says so, and who has none of its own gets one."""
    algorithm, server, kept = after_two_rounds(entry, network())
    models = [algorithm.model_for(server, AlgorithmState(own)) for own in (*kept, {})]
    assert all(model is not None for model in models)
    same = all(torch.equal(models[0][0], params) for params, _ in models[1:3])
    assert same == (not algorithm.personal) and algorithm.personal == entry.personal
    assert algorithm.personal or algorithm.model_for(server, None) is not None


def round_trips(card, entry, contract):
    contract.round_trips(entry)
    assert entry.bound(network()).configuration() == entry.configuration()


def documented(card, entry, contract):
    contract.documented(card)
    assert entry.weights in ("records", "uniform")


CHECKS = [
    same_seed_same_result,
    touches_nothing,
    sends_what_it_expects,
    begins_alike_everywhere,
    works_on_a_stack,
    survives_a_restart,
    learns,
    says_if_it_is_personal,
    round_trips,
    documented,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("card", cards(ROOM), ids=lambda c: c.kind)
def test_every_algorithm(card, check, contract):
    check(card, load_entry(card)(**KNOBS.get(card.kind, {})), contract)


@pytest.mark.parametrize("card", cards(ROOM), ids=lambda c: c.kind)
def test_under_dp_every_step_is_charged(card):
    """As many charged steps as the schedule has: twice as many where a second model is trained."""
    entry = load_entry(card)()
    rule = DPSGD(noise_multiplier=1.0, delta=1e-3).rule(MeanGradient())
    exchange, state = federation(entry, network(batch=False), rule, fraction=1.0)
    state, held = played(exchange, state, 2)
    for site in SITES:
        charged = sum(c.count if isinstance(c, Composed) else 1 for c in held[site.id].ledger)
        schedule = rule.schedule(entry.schedule(ASKED))
        assert charged == 2 * schedule.steps(len(site.records.train))
    twice = 2 if entry.kind() == "ditto" else 1
    assert entry.kind() == "fed-sgd" or schedule.epochs == twice * ASKED.epochs
    assert state.server.params.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "kept", "moved"),
    [
        ("scaffold", {"control": 1.0}, lambda k: 0.1 * k),
        ("fed-dyn", {"slope": 1.0}, lambda k: (1 - (1 - 0.1 * 0.1) ** k) / 0.1),
    ],
)
def test_law_12_what_an_algorithm_adds_is_neither_clipped_nor_noised(kind, kept, moved):
    """Gradients are clipped to nothing, and still the site moves as far as its correction takes it."""
    rule = DPSGD(noise_multiplier=1e-6, delta=1e-3, clip=1e-6).rule(MeanGradient())
    exchange, state = federation(load_entry(find(kind, ROOM))(), network(batch=False), rule)
    sent = exchange.half.algorithm.broadcast(state.server)
    own = AlgorithmState({name: torch.full_like(sent.params, value) for name, value in kept.items()})
    update, _ = exchange.sites["site-0"].work(sent, SiteState(own))
    steps = rule.schedule(ASKED).steps(40)
    torch.testing.assert_close(update.payload["delta"], torch.full_like(sent.params, moved(steps)), rtol=1e-3, atol=0)


def test_law_12_a_personal_model_is_pulled_beyond_the_clip():
    rule = DPSGD(noise_multiplier=1e-6, delta=1e-3, clip=1e-6).rule(MeanGradient())
    exchange, state = federation(load_entry(find("ditto", ROOM))(lam=1.0), network(batch=False), rule)
    sent = exchange.half.algorithm.broadcast(state.server)
    own = AlgorithmState({"params": sent.params + 1, "buffers": sent.buffers})
    _, after = exchange.sites["site-0"].work(sent, SiteState(own))
    steps = rule.schedule(exchange.half.algorithm.schedule(ASKED)).steps(40) // 2
    left = (after.algorithm.tensors["params"] - sent.params).mean()
    assert float(left) == pytest.approx(0.9**steps, rel=1e-3)


@pytest.mark.parametrize("card", cards(ROOM), ids=lambda c: c.kind)
def test_stacked_sites_end_where_the_loop_ends(card):
    """Sites of unequal size, so of unequal numbers of steps; everything they keep, too."""
    exchange, state = federation(load_entry(card)(), network(batch=False))
    one, other = (tensors(*played(exchange, state, 3, engine=engine)) for engine in (Loop(), Stacked()))
    alike(one, other, rtol=1e-4, atol=1e-5)


CALLS = itertools.count()


@dataclass(frozen=True)
class Broken(LocalDescent):
    """FedAvgM with one more vector at the site, broken in one place at a time."""

    weights: ClassVar[str] = "records"

    lr: float = 0.1
    momentum: float = 0.0
    optimiser: str = "sgd"
    flaw: str = ""

    def begin(self, broadcast, kept, steps):
        own = kept.tensors.get("own", torch.zeros_like(broadcast.params))
        work = replace(super().begin(broadcast, kept, steps), memory={"own": own})
        return replace(work, memory={}) if self.flaw == "begin" and not kept.tensors else work

    def step(self, work, gradient):
        value = gradient.value
        if self.flaw == "counts":
            value = value * (1 + next(CALLS) % 7)
        if self.flaw == "global":
            value = value + torch.rand(1)
        if self.flaw == "in place":
            gradient.value.mul_(0.5)
        if self.flaw == "branch" and float(value.sum()) > 0:
            value = 2 * value
        if self.flaw == "mixes":
            value = value / value.norm()
        return self.descend(work, gradient, value)

    def finish(self, broadcast, work):
        sent, _ = super().finish(broadcast, work)
        if self.flaw == "sends":
            sent["steps"] = torch.ones(1)
        if self.flaw == "idle":
            sent["delta"] = 0 * sent["delta"]
        own = work.memory.get("own", work.params) + sent["delta"]
        return sent, AlgorithmState({"own": own})

    def advance(self, server, aggregate):
        if self.flaw == "server":
            server.params.add_(1e-6)
        name = "velocity/server" if self.flaw == "name" else "velocity"  # a name that a checkpoint cannot hold
        velocity = server.memory.get(name, torch.zeros(())) / 2 + aggregate.payload["delta"]
        return moved(server, aggregate, server.params + velocity, **{name: velocity})

    def model_for(self, server, kept):
        if self.flaw == "personal" and kept is not None and kept.tensors:
            return kept.tensors["own"], server.buffers
        return super().model_for(server, kept)

    def configuration(self):
        return {**super().configuration(), "flaw": ""} if self.flaw == "configuration" else super().configuration()


CARD = Card("broken", ROOM, "algorithm", "Breaks one clause.", "This file.", {}, __name__, "Broken")
FLAWS = [
    (same_seed_same_result, "counts"),
    (same_seed_same_result, "global"),
    (touches_nothing, "global"),
    (touches_nothing, "in place"),
    (touches_nothing, "server"),
    (sends_what_it_expects, "sends"),
    (begins_alike_everywhere, "begin"),
    (works_on_a_stack, "branch"),
    (works_on_a_stack, "counts"),
    (survives_a_restart, "name"),
    (learns, "idle"),
    (says_if_it_is_personal, "personal"),
    (round_trips, "configuration"),
    (documented, "undocumented"),
]


@pytest.mark.parametrize(("check", "flaw"), FLAWS, ids=lambda v: getattr(v, "__name__", v))
def test_a_broken_algorithm_fails(check, flaw, contract):
    card = replace(CARD, source="") if flaw == "undocumented" else CARD
    with pytest.raises(AssertionError):
        check(card, Broken(flaw=flaw), contract)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_the_same_algorithm_unbroken_passes(check, contract):
    """So it is the flaw that fails, and every clause has one."""
    check(CARD, Broken(), contract)
    assert check in {c for c, _ in FLAWS}
