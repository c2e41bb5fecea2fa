"""The contract of every federated algorithm with a partly frozen network: the backbone is a constant.

The oracle trains the head alone on features that were computed before, and never sees the backbone.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.core.catalogue import cards, find, load_entry
from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Pools, Records, Site
from consilium.defend.training.dp_sgd import DPSGD
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
ASKED = Schedule(3, 2, 16)


def records(n, seed):
    x = torch.rand(n, 6, generator=torch.Generator().manual_seed(seed))
    return Records.of(x, (x[:, 0] + 0.3 * x[:, 1] > 0.6).long())


SITES = tuple(Site(f"site-{k}", Pools(*(records(n, k + i) for i in (0, 50, 90)))) for k, n in enumerate((40, 60, 20)))


def module():
    """A frozen backbone with statistics of its own; a head with a normalisation layer."""
    with scoped(Stream(5)):
        backbone = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        backbone[1].running_mean.normal_()
        return nn.Sequential(backbone.requires_grad_(False), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2))


def federation(algorithm, net, rule, sites=SITES):
    stream = Stream(11).child("train")
    algorithm = algorithm.bound(net)
    schedule = rule.schedule(algorithm.schedule(ASKED))
    people = {
        s.id: Participant(s, s.records.train, 1.0, net, algorithm, TaskLoss(SingleLabel()), rule, schedule, (), stream)
        for s in sites
    }
    half = ServerHalf(tuple(people), 1.0, algorithm, WeightedMean(), (), 2, SingleLabel(), stream)
    return FederatedRound(half, LocalRounds(people)), RoundState(algorithm.start(net, len(sites)))


def played(exchange, state, engine=None):
    kept = SiteStates()
    for _ in range(3):
        state = run_exchange(engine or Loop(), exchange, state, kept, SiteState, f"round {state.server.round + 1}")
    return state, kept


def everything(state, kept):
    named = {"params": state.server.params, "buffers": state.server.buffers, **state.server.memory}
    return named | {f"{site} {k}": t for site in sorted(kept) for k, t in kept[site].algorithm.tensors.items()}


def on_features():
    """The head as a model of its own, and sites whose records are features."""
    whole = module().eval()

    def features(pool):
        with torch.no_grad():
            return replace(pool, x=whole[0](pool.x))

    sites = tuple(Site(s.id, Pools(*(features(pool) for pool in vars(s.records).values()))) for s in SITES)
    return Network(nn.Sequential(*whole[1:])), sites


RULES = {
    "mean": MeanGradient(),
    "dp-sgd": DPSGD(noise_multiplier=0.8, delta=1e-3, clip=0.5).rule(MeanGradient()),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("card", cards(ROOM), ids=lambda c: c.kind)
def test_every_algorithm_trains_the_head_as_if_there_were_features_alone(card, rule):
    """With DP-SGD too, BatchNorm in the backbone: to the last bit, and the backbone does not move by one."""
    entry, net = load_entry(card)(), Network(module())
    before = {name: t.clone() for name, t in net.constants.items()}
    ours = everything(*played(*federation(entry, net, rule)))
    alone, sites = on_features()
    theirs = everything(*played(*federation(entry, alone, rule, sites)))
    assert ours.keys() == theirs.keys()
    different = [name for name, tensor in theirs.items() if not torch.equal(tensor, ours[name])]
    assert not different
    assert not torch.equal(ours["params"], federation(entry, net, rule)[1].server.params)
    assert all(torch.equal(before[name], t) for name, t in net.constants.items())
    released = net.module_at(ours["params"], ours["buffers"]) if not entry.personal else net.module_at(*net.start())
    assert all(torch.equal(before[name], t) for name, t in released.state_dict().items() if name in before)


@pytest.mark.parametrize("card", cards(ROOM), ids=lambda c: c.kind)
def test_only_what_trains_is_sent(card):
    """An update is as long as that of a model of the head alone."""
    entry, sizes = load_entry(card)(), []
    for net, sites in ((Network(module()), SITES), on_features()):
        exchange, state = federation(entry, net, RULES["mean"], sites)
        update, _ = exchange.sites["site-0"].work(exchange.half.algorithm.broadcast(state.server), SiteState())
        sizes.append({name: t.numel() for name, t in update.payload.items()})
    assert sizes[0] == sizes[1]
    assert sum(sizes[0].values()) < sum(p.numel() for p in module().parameters()) * len(sizes[0])


def test_stacked_sites_end_where_the_loop_ends():
    """A frozen middle, with BatchNorm, which no front takes away."""
    with scoped(Stream(5)):
        middle = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).requires_grad_(False)
        net = Network(nn.Sequential(nn.Linear(6, 8), middle, nn.ReLU(), nn.Linear(8, 2)))
    exchange, state = federation(load_entry(find("fed-avg", ROOM))(), net, RULES["mean"])
    one, other = (everything(*played(exchange, state, engine)) for engine in (Loop(), Stacked()))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_backbone_that_trains_fails():
    """The control: unfrozen, the same network trains otherwise than its head on features."""
    whole = module().requires_grad_(True)
    entry = load_entry(find("fed-avg", ROOM))()
    ours, _ = played(*federation(entry, Network(whole), RULES["mean"]))
    alone, sites = on_features()
    theirs, _ = played(*federation(entry, alone, RULES["mean"], sites))
    assert ours.server.params.numel() > theirs.server.params.numel()
    assert not torch.equal(ours.server.params[-theirs.server.params.numel() :], theirs.server.params)
