"""Training under noise: how much, of whose records, and once."""

import pytest
import torch

from consilium.core.errors import Refused, Unlawful
from consilium.core.inputs import Inputs
from consilium.defend.training.gaussian_augmentation import GaussianAugmentation
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

PLAIN = TaskLoss(SingleLabel())


def prepared(sigma, seed=0):
    x, y = torch.full((400, 1, 5, 5), 0.5), torch.zeros(400, dtype=torch.int64)
    objective = GaussianAugmentation(sigma).objective(PLAIN)
    return objective.prepare(None, x, y, torch.Generator().manual_seed(seed))["x"] - x


def test_the_noise_has_the_deviation_that_was_asked_for():
    noise = prepared(0.25)
    assert abs(float(noise.mean())) < 0.01 and float(noise.std()) == pytest.approx(0.25, rel=0.03)
    assert len(noise.flatten(1).unique(dim=0)) == 400, "each record has its own"
    assert not torch.equal(noise, prepared(0.25, seed=1)), "and in each step another"


def test_the_losses_are_those_of_the_task():
    objective = GaussianAugmentation().objective(PLAIN)
    batch = {"x": torch.rand(3, 4), "y": torch.tensor([0, 1, 2])}
    assert torch.equal(objective.losses(lambda x: x, batch), PLAIN.losses(lambda x: x, batch))


def test_twice_is_refused_and_so_are_words_and_no_noise():
    defence = GaussianAugmentation()
    with pytest.raises(Unlawful, match="twice"):
        defence.objective(defence.objective(PLAIN))
    with pytest.raises(Refused, match="gaussian-augmentation"):
        defence.check_inputs(Inputs(tokens=9))
    with pytest.raises(Refused):
        GaussianAugmentation(0)
