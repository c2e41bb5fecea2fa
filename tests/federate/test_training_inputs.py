"""Keeping what a fixed front makes of the records changes how fast a site learns, and nothing else."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.core.front import Front
from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.training.adversarial_training import AdversarialTraining
from consilium.defend.training.dp_sgd import DPSGD
from consilium.federate.client.frozen_features import features, rehearsal, training_inputs
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.models.scattering import ScatteringModel
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

RULES = [MeanGradient(), DPSGD(noise_multiplier=1.0, delta=1e-3).rule(MeanGradient())]


def setting(n=30):
    with scoped(Stream(0)):
        net = Network(ScatteringModel(scale=1, angles=4, groups=5).build((1, 8, 8), 3))
    g = Stream(1).generator()
    return Records.of(torch.rand(n, 1, 8, 8, generator=g), torch.randint(3, (n,), generator=g)), net


def trained(rule, records, net, objective=None):
    params, buffers = net.start()
    oracle = rule.oracle(records, net, objective or TaskLoss(SingleLabel()), Schedule(1, 2, 10), Stream(4))
    for _ in range(oracle.steps):
        params = params - 0.1 * oracle(params, buffers).value
    return params


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_the_same_training_with_and_without(rule):
    records, net = setting()
    kept = training_inputs(records, net, TaskLoss(SingleLabel()))
    assert kept.records.x.shape == (30, 5, 4, 4)
    assert torch.equal(kept.records.ids, records.ids)
    torch.testing.assert_close(trained(rule, *kept), trained(rule, records, net), rtol=1e-4, atol=1e-5)


def test_that_test_can_fail():
    records, net = setting()
    kept = training_inputs(records, net, TaskLoss(SingleLabel()))
    shuffled = replace(kept.records, x=kept.records.x.roll(1, 0))
    away = trained(RULES[0], shuffled, kept.network) - trained(RULES[0], records, net)
    assert float(away.abs().max()) > 1e-3


def test_an_objective_that_changes_inputs_gets_raw_ones():
    """A radius is one of pixels, never of features."""
    records, net = setting()
    taught = training_inputs(records, net, AdversarialTraining(0.1, steps=1).objective(TaskLoss(SingleLabel())))
    assert taught == (records, net)


def test_a_model_without_a_front_is_left_alone():
    records, net = setting()[0], Network(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    assert training_inputs(records, net, TaskLoss(SingleLabel())) == (records, net)


class Doubled(Front):
    """Counts the records that went through it."""

    seen = 0

    def forward(self, x):
        Doubled.seen += len(x)
        return 2 * x


def test_features_are_made_once_per_record_in_order():
    Doubled.seen, x = 0, torch.rand(600, 3)
    assert torch.equal(features(Doubled(), x, torch.device("cpu")), 2 * x)
    assert Doubled.seen == 600


def test_a_rehearsal_costs_few_records_and_stands_for_all():
    Doubled.seen = 0
    records = Records.of(torch.rand(500, 3), torch.zeros(500).long())
    taught, seconds = rehearsal(records, Network(nn.Sequential(Doubled(), nn.Linear(3, 2))), TaskLoss(SingleLabel()))
    assert len(taught.records) == 500
    assert Doubled.seen == 32
    assert seconds > 0
