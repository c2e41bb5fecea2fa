"""Adversarial poisoning: images within the radius, under the model's own answer, for a share of the batch."""

import pytest
import torch

from consilium.attack.poisoning.adversarial_poisoning import AdversarialPoisoning
from consilium.core.errors import Refused
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel


class Plain(TaskLoss):
    """Cross-entropy on the batch as it is."""

    def prepare(self, predict, x, y, generator):
        return {"x": x, "y": y, "after": torch.rand(1, generator=generator)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def prepare(attack, network, records, seed=0):
    return attack.objective(Plain(SingleLabel())).prepare(network, records.x, records.y, generator(seed))


def test_poisoned_records_are_near_wrong_and_named_by_the_model(network, digits):
    records = digits[1]
    batch = prepare(AdversarialPoisoning(radius=0.2, share=1.0), network, records)
    assert (batch["x"] - records.x).abs().max() <= 0.2 + 1e-6
    assert batch["x"].min() >= 0 and batch["x"].max() <= 1
    assert torch.equal(batch["y"], network(batch["x"]).argmax(1))
    assert (batch["y"] != records.y).double().mean() > 0.5


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_about_a_share_of_the_batch_is_poisoned(network, digits, share):
    records = digits[1]
    batch = prepare(AdversarialPoisoning(radius=0.2, share=share), network, records)
    touched = (batch["x"] != records.x).flatten(1).any(1)
    n = len(records)
    assert abs(int(touched.sum()) - share * n) < 4 * (n * share * (1 - share)) ** 0.5
    assert torch.equal(batch["y"][~touched], records.y[~touched])


def test_nothing_to_poison_is_the_objective_itself():
    plain = Plain(SingleLabel())
    assert AdversarialPoisoning(share=0.0).objective(plain) is plain


def test_the_generator_decides(network, digits):
    first, second, other = (prepare(AdversarialPoisoning(), network, digits[1], seed)["x"] for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_nothing_is_written_into_the_records_or_the_weights(network, digits):
    before = digits[1].x.clone(), digits[1].y.clone()
    batch = prepare(AdversarialPoisoning(share=1.0), network, digits[1])
    assert torch.equal(digits[1].x, before[0]) and torch.equal(digits[1].y, before[1])
    assert not batch["x"].requires_grad and all(p.grad is None for p in network.parameters())


def test_losses_are_those_of_the_objective_inside(network, digits):
    objective = AdversarialPoisoning().objective(Plain(SingleLabel()))
    batch = prepare(AdversarialPoisoning(), network, digits[1])
    assert torch.equal(objective.losses(network, batch), Plain(SingleLabel()).losses(network, batch))


@pytest.mark.parametrize("knobs", [{"share": 1.1}, {"share": -0.1}, {"sites": -1}, {"radius": -1.0}, {"steps": 0}])
def test_a_knob_out_of_range_is_refused_by_name(knobs):
    with pytest.raises(Refused, match="out of range"):
        AdversarialPoisoning(**knobs)
