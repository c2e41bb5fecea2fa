"""NES: an estimate is the gradient on average, the budget is kept, and a linear model falls where it must."""

import pytest
import torch
from torch import nn

from consilium.attack.evasion._black_box import Answers
from consilium.attack.evasion.nes import NES
from consilium.attack.evasion.pgd import PGD
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.tasks.single_label import SingleLabel


class Score(nn.Module):
    """Class 1 leads by a linear score; counts what it is asked."""

    def __init__(self, weight, lead):
        super().__init__()
        self.weight, self.lead, self.asked = weight, lead, 0

    def forward(self, x):
        self.asked += len(x)
        value = x.flatten(1) @ self.weight - self.lead
        return torch.stack([torch.zeros_like(value), value], 1)


def view_of(module, x, y=None):
    y = torch.zeros(len(x)).long() if y is None else y
    return ModelView(2, module, None, Records.of(x, y), task=SingleLabel())


def test_an_estimate_is_the_sum_over_its_directions():
    """Of a linear loss w x it is mean_k (w u_k) u_k, whose mean over directions is w."""
    weight, x = torch.tensor([1.0, -2.0, 0.5, 3.0]), torch.full((3, 4), 0.5)
    view, attack = view_of(Score(weight, 9.0), x), NES()
    answers = Answers(view, x, view.targets.y, attack.goal_for(view.task), 10_001)
    estimate = attack.estimate(answers, x, torch.arange(3), 40, torch.Generator().manual_seed(0))
    drawn = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(estimate, ((drawn @ weight)[:, None] * drawn).mean(0).expand(3, 4), atol=1e-2)
    many = attack.estimate(answers, x, torch.arange(3), 4000, torch.Generator().manual_seed(0))
    assert torch.allclose(many, weight.expand(3, 4), atol=0.25)  # three deviations of |w| / sqrt(4000)


def test_a_linear_model_falls_where_a_corner_crosses():
    g = torch.Generator().manual_seed(0)
    weight, x = torch.randn(9, generator=g), 0.3 + 0.4 * torch.rand(40, 1, 3, 3, generator=g)
    module = Score(weight, 0.5 * weight.sum())
    view = view_of(module, x, module(x).argmax(1))
    finding = NES(radius=0.04, queries=1500)(view, {}, torch.Generator().manual_seed(0))
    lead, reach = (x.flatten(1) @ weight - 0.5 * weight.sum()).abs(), 0.04 * weight.abs().sum()
    clear = (lead - reach).abs() > 0.02 * reach
    assert torch.equal(finding.scores["correct"][clear], (lead > reach)[clear])
    assert 0 < finding["robust_accuracy"].value < 0.9


def test_it_lies_between_nothing_and_the_white_box(view):
    attacks = (PGD(radius=1e-9), NES(radius=0.1, queries=400), PGD(radius=0.1))
    clean, nes, white = (a(view, {}, torch.Generator().manual_seed(0))["robust_accuracy"].value for a in attacks)
    assert clean > nes + 0.1 and nes >= white - 0.01


@pytest.mark.parametrize("queries", [4, 5, 20, 33])
def test_the_budget_is_never_exceeded(queries):
    module = Score(torch.ones(6), 99.0)
    view = view_of(module, torch.full((1, 6), 0.5))
    NES(queries=queries, directions=3).craft(view, view.targets.x, view.targets.y, torch.Generator())
    assert queries - 1 <= module.asked <= queries + 1  # the judge looks once more


@pytest.mark.parametrize("knobs", [{"queries": 0}, {"directions": 0}, {"sigma": 0.0}, {"step_size": -1.0}])
def test_a_knob_out_of_range_is_refused_by_name(knobs):
    with pytest.raises(Refused, match="out of range"):
        NES(**knobs)
