"""Expectation over transformation: the mean gradient of a randomised model, on one whose noise is known."""

import math

import pytest
import torch
from torch import nn

from consilium.attack.evasion.apgd import APGD
from consilium.attack.evasion.apgd_t import APGDT
from consilium.attack.evasion.auto_attack import AutoAttack
from consilium.attack.evasion.pgd import PGD
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.losses import MarginLoss
from consilium.learn.perturbation.maximise import mean_logits, slope
from consilium.learn.tasks.single_label import SingleLabel

D, NOISE = 400, 2.0
SIGNS = torch.tensor([1.0, -1.0]).repeat(D // 2)
GOAL = Misclassification(SingleLabel())


class NoisyWeights(nn.Module):
    """Two logits -s and s, s = (w + noise) (x - 1/2) + lead, with noise drawn for each record at each answer."""

    def __init__(self, lead=0.0, seed=0):
        super().__init__()
        self.lead, self.generator = lead, torch.Generator().manual_seed(seed)

    def draw(self, n):
        return NOISE * torch.randn(n, D, generator=self.generator)

    def forward(self, x):
        score = ((SIGNS + self.draw(len(x))) * (x - 0.5)).sum(1) + self.lead
        return torch.stack([-score, score], 1)


def test_the_gradient_is_the_mean_of_so_many():
    x, y = torch.rand(3, D, generator=torch.Generator().manual_seed(1)), torch.tensor([1, 1, 0])
    at = slope(NoisyWeights(), x, y, MarginLoss(), GOAL, samples=5)
    again = NoisyWeights()
    draws = torch.stack([again.draw(3) for _ in range(5)])
    away = torch.tensor([-2.0, -2.0, 2.0])[:, None]
    assert torch.allclose(at.gradient, away * (SIGNS + draws.mean(0)), atol=1e-5)
    score = ((SIGNS + draws.mean(0)) * (x - 0.5)).sum(1)
    assert torch.allclose(at.logits, torch.stack([-score, score], 1), atol=1e-4)
    assert torch.allclose(at.losses, -2 * score * torch.tensor([1.0, 1.0, -1.0]), atol=1e-4)
    assert torch.equal(mean_logits(NoisyWeights(), x, 5), mean_logits(NoisyWeights(), x, 5))


def view_of(lead):
    module, x = NoisyWeights(lead), torch.full((50, D), 0.5)
    return ModelView(2, module, module, Records.of(x, torch.ones(50).long()), task=SingleLabel())


@pytest.mark.parametrize("samples", [1, 4, 16])
def test_a_step_goes_the_right_way_as_often_as_the_noise_lets_it(samples):
    """The mean of K derivatives has the right sign with probability Phi(sqrt(K) / noise)."""
    attack = PGD(radius=0.1, steps=1, step_size=0.1, random_start=False, loss="margin", samples_per_gradient=samples)
    view = view_of(lead=1e4)
    moved = attack.craft(view, view.targets.x, view.targets.y, torch.Generator().manual_seed(0)) - 0.5
    share = (moved.sign() == -SIGNS).double().mean().item()
    expected = 0.5 * (1 + math.erf(math.sqrt(samples) / NOISE / math.sqrt(2)))
    assert share == pytest.approx(expected, abs=0.01)  # 20,000 signs: three deviations are .01


@pytest.mark.parametrize("kind", [PGD, APGD, APGDT])
def test_the_mean_fools_more_than_one_draw_does(kind):
    """With the mean of one a point leaves at the first lucky answer, and the judge draws another."""
    more = {"loss": "margin"} if kind is not APGDT else {}
    one, mean = (
        kind(radius=0.1, steps=8, norm="l2", samples_per_gradient=k, **more)(
            view_of(lead=0.7), {}, torch.Generator().manual_seed(0)
        )
        .scores["correct"]
        .double()
        .mean()
        for k in (1, 32)
    )
    assert mean < one - 0.05


def test_one_sample_is_no_part_of_the_configuration():
    """So that what was attacked before the knob was there keeps its digest."""
    for kind in (PGD, APGD, APGDT, AutoAttack):
        assert "samples-per-gradient" not in kind().configuration()
        assert kind(samples_per_gradient=3).configuration()["samples-per-gradient"] == 3
        with pytest.raises(Refused, match="0 is out of range"):
            kind(samples_per_gradient=0)


def test_the_parts_of_the_ensemble_that_follow_gradients_take_it():
    parts = AutoAttack(samples_per_gradient=7).parts()
    assert parts["apgd-ce"].samples_per_gradient == parts["apgd-t"].samples_per_gradient == 7
