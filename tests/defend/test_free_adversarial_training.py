"""Free adversarial training: one backward pass serves both, by hand; nothing is carried to another batch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from consilium.core.errors import Refused, Unlawful
from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.training.dp_sgd import DPSGD
from consilium.defend.training.free_adversarial_training import FreeAdversarialTraining
from consilium.learn.mean_gradient import MeanGradient, shuffled
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

LOSS, WORK = TaskLoss(SingleLabel()), Schedule(rounds=1, epochs=2, batch=8)


def network(norm=False):
    with scoped(Stream(0)):
        layers = [nn.Flatten(), nn.Linear(16, 6)] + [nn.BatchNorm1d(6)] * norm
        return Network(nn.Sequential(*layers, nn.Tanh(), nn.Linear(6, 3)))


def data(n=24):
    g = Stream(1).generator()
    return Records.of(torch.rand(n, 1, 4, 4, generator=g), torch.randint(3, (n,), generator=g))


def oracle(defence, net, work=WORK):
    return defence.rule(MeanGradient()).oracle(data(), net, LOSS, work, Stream(5))


def test_each_step_is_that_of_a_loop_by_hand():
    net, records, lr = network(), data(), 0.5
    params, buffers = net.start()
    ours, weights = oracle(FreeAdversarialTraining(0.05, replays=3), net), params.clone()
    theirs, delta = params.clone(), torch.zeros(0)
    batches = shuffled(len(records), WORK, Stream(5))
    for step in range(ours.steps):
        index = batches[step // 3]
        x, y = records.x[index], records.y[index]
        delta = torch.zeros_like(x) if step % 3 == 0 else delta
        leaf, moved = theirs.clone().requires_grad_(), (x + delta).requires_grad_()
        g, rise = torch.autograd.grad(F.cross_entropy(net.logits(leaf, buffers, moved), y), (leaf, moved))
        delta = (x + (delta + 0.05 * rise.sign()).clamp(-0.05, 0.05)).clamp(0, 1) - x
        value = ours(weights, buffers).value
        torch.testing.assert_close(value, g, rtol=1e-4, atol=1e-6)
        weights, theirs = weights - lr * value, theirs - lr * g


def test_a_round_has_as_many_steps_as_without_replays():
    plain = MeanGradient().oracle(data(), network(), LOSS, WORK, Stream(5))
    assert oracle(FreeAdversarialTraining(replays=4), network()).steps == plain.steps == 6


def test_nothing_is_carried_to_another_batch():
    """The first step on each batch is the plain gradient of that batch."""
    net = network()
    params, buffers = net.start()
    ours = oracle(FreeAdversarialTraining(0.3, replays=2), net)
    for batch in shuffled(24, WORK, Stream(5))[:3]:
        leaf = params.clone().requires_grad_()
        loss = F.cross_entropy(net.logits(leaf, buffers, data().x[batch]), data().y[batch])
        (plain,) = torch.autograd.grad(loss, leaf)
        torch.testing.assert_close(ours(params, buffers).value, plain, rtol=1e-4, atol=1e-6)
        assert float((ours(params, buffers).value - plain).norm()) > 1e-2 * float(plain.norm())


def test_running_statistics_are_those_of_the_replays():
    net = network(norm=True)
    params, buffers = net.start()
    after = oracle(FreeAdversarialTraining(), net)(params, buffers).buffers
    assert not torch.equal(after, buffers) and torch.equal(buffers, net.start()[1])


def test_it_may_not_stand_beside_a_private_rule():
    private = DPSGD(noise_multiplier=1.0, delta=1e-3)
    with pytest.raises(Unlawful, match="LAWS 5"):
        FreeAdversarialTraining().rule(private.rule(MeanGradient()))
    with pytest.raises(Unlawful, match="ReplayedBatches"):
        private.rule(FreeAdversarialTraining().rule(MeanGradient()))


@pytest.mark.parametrize("knobs", [{"radius": 0.0}, {"replays": 1}, {"replays": 101}])
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refused, match="out of range"):
        FreeAdversarialTraining(**knobs)
