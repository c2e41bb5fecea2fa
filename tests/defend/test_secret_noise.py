"""DP-SGD draws its noise and its sample through the stream: replayable as ever in a simulation, secret at a site."""

import pytest
import torch
from scipy import stats
from torch import nn

from consilium.core.gradient import Objective, Schedule
from consilium.core.keystream import Secret
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.data.label_randomised_response import LabelRandomisedResponse
from consilium.defend.training.dp_sgd import DPSGD
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

SCHEDULE = Schedule(rounds=1, epochs=3, batch=8)
SIGMA, CLIP, N = 1.7, 0.5, 40


class Silent(Objective):
    """No gradient at all: what comes out is the noise."""

    def prepare(self, predict, x, y, generator):
        return {"x": x, "y": y}

    def losses(self, predict, batch):
        return 0 * predict(batch["x"]).sum(1)


def data():
    g = Stream(1).generator()
    return Records.of(torch.rand(N, 6, generator=g), torch.randint(2, (N,), generator=g))


def net():
    with scoped(Stream(0)):
        return Network(nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 2)))


def draws(stream, objective=None, steps=15):
    network = net()
    rule = DPSGD(noise_multiplier=SIGMA, clip=CLIP, delta=1e-3).rule(MeanGradient())
    oracle = rule.oracle(data(), network, objective or Silent(), SCHEDULE, stream)
    return torch.stack([oracle(*network.start()).value for _ in range(steps)])


def test_the_replayable_noise_is_what_it_was():
    """Bit for bit the formula of the first release: torch.randn at the address step/noise, times sigma C, over B."""
    stream = Stream(9).child("train", "site-1", 4)
    for step, drawn in enumerate(draws(stream)):
        generator = stream.child("step", step).child("noise").generator()
        noise = torch.randn(drawn.shape, generator=generator)
        assert torch.equal(drawn, (torch.zeros(drawn.shape) + SIGMA * CLIP * noise) / 8)


def test_the_replayable_sample_is_what_it_was():
    own = Stream(9).child("step", 3).child("sample")
    before = torch.rand(N, generator=own.generator(), dtype=torch.float64) < 0.2
    assert torch.equal(own.coins(N, 0.2), before)


def test_secret_noise_has_the_same_law_and_never_repeats():
    stream = Stream(9).child("train", "site-1", 4).secretly(Secret())
    rounds = torch.cat([draws(stream) for _ in range(4)]).double() / (SIGMA * CLIP / 8)
    assert stats.kstest(rounds.flatten().numpy(), "norm").pvalue > 1e-5
    unit = rounds / rounds.norm(dim=1, keepdim=True)
    assert (unit @ unit.T - torch.eye(len(unit))).abs().max() < 6 / rounds.shape[1] ** 0.5
    assert torch.equal(draws(Stream(9)), draws(Stream(9))), "and replayable noise does"


def test_the_secret_path_learns_the_same_sums():
    """With next to no noise and all records, the secret path gives the mean of the same clipped gradients."""
    rule = DPSGD(noise_multiplier=1e-6, clip=100.0, delta=1e-3).rule(MeanGradient())
    network, everyone = net(), Schedule(1, 1, 0)
    made = [
        rule.oracle(data(), network, TaskLoss(SingleLabel()), everyone, stream)(*network.start()).value
        for stream in (Stream(9), Stream(9).secretly(Secret()))
    ]
    torch.testing.assert_close(*made, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("key", [None, Secret(bytes(32))])
def test_labels_are_drawn_once_and_stay_the_same(key):
    stream = Stream(5).child("label") if key is None else Stream(5).child("label").secretly(key)
    defence = LabelRandomisedResponse(1.0)
    one, two = (defence.protect(data(), 2, stream).y for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(one, defence.protect(data(), 2, Stream(5).child("label")).y) == (key is None)


@pytest.mark.parametrize("secret", [True, False])
def test_a_secret_sample_is_never_drawn_again(secret):
    """The coins too: who knew the sample would know whom a noisy sum is about, and amplification would be gone."""
    rule, network = DPSGD(noise_multiplier=1e-9, clip=100.0, delta=1e-3).rule(MeanGradient()), net()
    stream = Stream(9).secretly(Secret()) if secret else Stream(9)
    oracles = [rule.oracle(data(), network, TaskLoss(SingleLabel()), Schedule(1, 1, 8), stream) for _ in range(2)]
    sums = [oracle(*network.start()).value for oracle in oracles]
    assert torch.allclose(*sums, atol=1e-5) != secret
