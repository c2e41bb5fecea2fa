"""Five classic errors, each planted in the product's own path: the audit, or an invariant, finds every one.

The adversary is the server: it sends one model every round and sees every update.  Canary i is the i-th unit vector, so
that its gradient is a direction of its own, and its score is how far the updates went that way.  The claim is made from
the site's ledger by the product's accountant, the bound by the product's audit; the right code is below its claim.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.core.algorithm import Broadcast
from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Pools, Records, Site
from consilium.defend.training import _dp_sgd_rule
from consilium.defend.training.dp_sgd import DPSGD
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.algorithms.fed_sgd import FedSGD
from consilium.federate.client import participant
from consilium.federate.client.participant import Participant, SiteState
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.per_example import ClippedSum
from consilium.learn.tasks.single_label import SingleLabel
from consilium.measure.accounting.privacy import claims
from consilium.measure.audit import one_run

M, CLIP, DELTA, RATE = 400, 0.1, 1e-5, 1e-6
SHARES = (0.05, 0.2, 0.5)
ALONG = torch.tensor([0.5, -0.5]) / 0.5**0.5
"""Where the gradient of label 1 points at weights of zero, in the column of its canary."""


def coins(seed=0):
    return Stream(seed).child("coins").coins(M, 0.5)


def network():
    module = nn.Linear(M, 2, bias=False)
    nn.init.zeros_(module.weight)
    return Network(module)


def records(included):
    return Records.of(torch.eye(M)[included], torch.ones(int(included.sum()), dtype=torch.long))


def site(name, train, algorithm, sigma, batch=0, rounds=1, seed=0):
    rule = DPSGD(noise_multiplier=sigma, delta=DELTA, clip=CLIP).rule(MeanGradient())
    schedule = algorithm.schedule(Schedule(rounds, 1, batch))
    return Participant(
        Site(name, Pools(train, train, train)), train, 1.0, network(), algorithm, TaskLoss(SingleLabel()), rule,
        schedule, (), Stream(seed).child("train"),
    )  # fmt: skip


def released(who, rounds):
    """What the server sees, ``(rounds, d)``, as sums of clipped gradients, and what the site has paid."""
    params, buffers = who.network.start()
    state, seen = SiteState(), []
    for number in range(rounds):
        update, state = who.work(Broadcast(number, params, buffers), state)
        seen.append(-update.payload["delta"])
    (claim,) = claims(who.site.id, state.ledger, n=len(who.train), delta=DELTA)
    return torch.stack(seen), claim.epsilon


def along(values):
    """The part of ``values (..., d)`` along each canary's gradient, ``(..., m)``."""
    return (values.view(*values.shape[:-1], 2, M) * ALONG.view(2, 1)).sum(-2)


def bound(scores, included):
    return one_run(scores, included, delta=DELTA, confidence=0.95, shares=SHARES).epsilon


def audit(sigma, rounds=1):
    """Claim and bound of ``rounds`` rounds on all records."""
    included = coins()
    seen, claimed = released(site("site-0", records(included), FedSGD(), sigma, rounds=rounds), rounds)
    return claimed, bound(along(seen.sum(0)), included)


# --- the right code -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sigma", "rounds"), [(2.0, 1), (0.5, 1), (4.0, 36)])
def test_the_right_code_stays_below_its_claim_and_the_audit_is_no_dummy(sigma, rounds):
    claimed, found = audit(sigma, rounds)
    assert found < claimed
    assert sigma == 2.0 or found > 0.5


# --- no noise, too little noise, the batch clipped ------------------------------------------------------------------


def noise_of(monkeypatch, deviation):
    right = Stream.noised
    monkeypatch.setattr(Stream, "noised", lambda own, value, asked: right(own, value, deviation(asked)))


def test_no_noise_is_caught(monkeypatch):
    noise_of(monkeypatch, lambda asked: 1e-12)
    claimed, found = audit(2.0)
    assert found > claimed


def test_noise_divided_by_the_batch_twice_is_caught(monkeypatch):
    noise_of(monkeypatch, lambda asked: asked / int(coins().sum()))
    claimed, found = audit(2.0)
    assert found > claimed


def test_clipping_the_batch_gradient_is_caught(monkeypatch):
    """The mean's norm is below C, so nothing is cut, and each record moves the sum by seven times C."""

    def batch_clipped(net, params, buffers, objective, batch, clip, chunk, **how):
        at, n = params.clone().requires_grad_(), len(batch["y"])
        losses = objective.losses(lambda x: net.logits(at, buffers, x), batch)
        (g,) = torch.autograd.grad(losses.mean(), at)
        return ClippedSum(n * g * min(1.0, clip / float(g.norm())), clip)

    monkeypatch.setattr(_dp_sgd_rule, "clipped_sum", batch_clipped)
    claimed, found = audit(2.0)
    assert found > claimed


# --- the accountant -------------------------------------------------------------------------------------------------


def test_an_accountant_reset_every_round_is_caught(monkeypatch):
    honest, _ = audit(4.0, rounds=36)
    monkeypatch.setattr(participant, "entered", lambda ledger, charge: (charge,))
    claimed, found = audit(4.0, rounds=36)
    assert claimed < honest / 4
    assert found > claimed


# --- a seed of noise used again -------------------------------------------------------------------------------------


def without(monkeypatch, kind):
    """Noise whose address has lost every part of this ``kind``: its site, or its round and step."""
    right = Stream.noised

    def noised(own, value, deviation):
        return right(replace(own, path=tuple(p for p in own.path if not kind(p))), value, deviation)

    monkeypatch.setattr(Stream, "noised", noised)


def is_site(part):
    return str(part).startswith("site-")


def is_number(part):
    return isinstance(part, int)


def between_sites():
    """The server knows the other site's records and takes its update off: noise that is the same in both is gone."""
    included = coins()
    n = int(included.sum())
    train = records(included)
    own, claimed = released(site("site-0", train, FedSGD(), 2.0), 1)
    other, _ = released(site("site-1", records(torch.arange(M) < n), FedSGD(), 2.0), 1)
    known = CLIP / n * (torch.arange(M) < n)
    return claimed, bound(along((own - other).sum(0)) + known, included)


def between_rounds():
    """Samples differ from round to round, noise that is used again does not: in the differences it is gone."""
    included = coins()
    who = site("site-0", records(included), FedAvg(lr=RATE), 4.0, batch=100, rounds=8)
    seen, claimed = released(who, 8)
    parts = along(seen / RATE)
    return claimed, bound((parts - parts.mean(0)).abs().amax(0), included)


@pytest.mark.parametrize(("adversary", "kind"), [(between_sites, is_site), (between_rounds, is_number)])
def test_a_seed_of_noise_used_again_is_caught(monkeypatch, adversary, kind):
    claimed, found = adversary()
    assert found < claimed
    without(monkeypatch, kind)
    claimed, found = adversary()
    assert found > claimed


class Silent(TaskLoss):
    """No gradient at all: what comes out is the noise."""

    def losses(self, predict, batch):
        return 0 * super().losses(predict, batch)


def overlap():
    """The largest cosine between two noises of two sites, two rounds and two steps; they have 800 coordinates."""
    included, drawn = coins(), []
    for name in ("site-0", "site-1"):
        who = site(name, records(included), FedAvg(lr=1.0), 1.0, batch=100, rounds=2)
        for number in range(2):
            params, buffers = who.network.start()
            here = who.stream.child(name, number, "gradient")
            oracle = who.rule.oracle(who.train, who.network, Silent(SingleLabel()), who.schedule, here)
            drawn += [oracle(params, buffers).value for _ in range(2)]
    unit = torch.stack([d / d.norm() for d in drawn])
    return float((unit @ unit.T - torch.eye(len(unit))).abs().max())


def test_no_two_noises_are_the_same(monkeypatch):
    """The invariant behind it: sites, rounds and steps draw independently."""
    assert overlap() < 6 / 800**0.5
    for kind in (is_site, is_number):
        with monkeypatch.context() as planted:
            without(planted, kind)
            assert overlap() > 0.99
