"""ZOO: differences are derivatives, ADAM is torch's, Newton jumps to the top of a parabola."""

import pytest
import torch
from torch import nn

from consilium.attack.evasion._black_box import Answers
from consilium.attack.evasion.pgd import PGD
from consilium.attack.evasion.zoo import Zoo
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.tasks.single_label import SingleLabel


def run(attack, view, seed=0):
    return attack(view, {}, torch.Generator().manual_seed(seed))


def small_view(module, x, y=None):
    return ModelView(2, module, None, Records.of(x, torch.zeros(len(x)).long() if y is None else y), task=SingleLabel())


class Score(nn.Module):
    """Class 1 leads by ``score`` of an input."""

    def __init__(self, score):
        super().__init__()
        self.score, self.asked = score, 0

    def forward(self, x):
        self.asked += len(x)
        value = self.score(x.flatten(1))
        return torch.stack([torch.zeros_like(value), value], 1)


def test_a_difference_is_the_derivative_of_a_linear_score():
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0])
    x = torch.full((3, 5), 0.5)
    view = small_view(Score(lambda v: v @ weight - 9), x)
    attack = Zoo(coordinates=5)
    answers = Answers(view, x, view.targets.y, attack.goal_for(view.task), 100)
    upper, lower = attack._sides(answers, x, torch.arange(3), torch.tensor([3, 1, 0, 2, 4]))
    slope = (upper - lower) / (2 * attack.difference)
    assert torch.allclose(slope, weight[[3, 1, 0, 2, 4]].expand(3, 5), atol=1e-3)


def test_adam_is_torchs():
    """Five steps on all coordinates of a linear score, inside a ball that stops none."""
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0])
    x = torch.full((1, 4), 0.5)
    attack = Zoo(radius=0.4, queries=1 + 5 * 9, coordinates=4, step_size=0.02)
    crafted = attack.craft(small_view(Score(lambda v: v @ weight - 9), x), x, torch.zeros(1).long(), torch.Generator())
    point = nn.Parameter(x.clone())
    optimiser = torch.optim.Adam([point], lr=0.02)
    for _ in range(5):
        optimiser.zero_grad()
        (-(point @ weight)).sum().backward()
        optimiser.step()
    assert torch.allclose(crafted, point.detach(), atol=1e-4)


def test_newton_jumps_to_the_top_of_a_parabola():
    top = torch.tensor([0.6, 0.45, 0.52])
    x = torch.full((2, 3), 0.5)
    view = small_view(Score(lambda v: -(v - top).square().sum(1) * 5 - 1), x)
    attack = Zoo(radius=0.4, queries=8, coordinates=3, step_size=1, optimiser="newton", difference=0.05)
    assert torch.allclose(attack.craft(view, x, view.targets.y, torch.Generator()), top.expand(2, 3), atol=1e-3)


@pytest.mark.parametrize("optimiser", ["adam", "newton"])
def test_a_linear_model_falls_where_a_corner_crosses(optimiser):
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(9, generator=g)
    x = 0.3 + 0.4 * torch.rand(40, 1, 3, 3, generator=g)
    module = Score(lambda v: v @ weight - 0.5 * weight.sum())
    y = module(x).argmax(1)
    reach = 0.04 * weight.abs().sum()
    finding = run(Zoo(radius=0.04, queries=400, optimiser=optimiser, step_size=0.02), small_view(module, x, y))
    lead = (x.flatten(1) @ weight - 0.5 * weight.sum()).abs()
    clear = (lead - reach).abs() > 0.01 * reach
    assert torch.equal(finding.scores["correct"][clear], (lead > reach)[clear])
    assert 0 < finding["robust_accuracy"].value < 0.9


def test_it_lies_between_nothing_and_the_white_box(view):
    attack = Zoo(radius=0.1, queries=1200, coordinates=32)
    clean, zoo, white = (run(a, view)["robust_accuracy"].value for a in (PGD(radius=1e-9), attack, PGD(radius=0.1)))
    assert clean > zoo + 0.2 and zoo >= white - 0.01


@pytest.mark.parametrize("queries", [4, 5, 20, 33])
def test_the_budget_is_never_exceeded(queries):
    module = Score(lambda v: v.sum(1) - 99)
    view = small_view(module, torch.full((1, 6), 0.5))
    Zoo(queries=queries, coordinates=3).craft(view, view.targets.x, view.targets.y, torch.Generator())
    assert queries - 1 <= module.asked <= queries + 1  # the judge looks once more


@pytest.mark.parametrize("knobs", [{"queries": 0}, {"coordinates": 0}, {"difference": 0.0}, {"step_size": -1.0}])
def test_a_knob_out_of_range_is_refused_by_name(knobs):
    with pytest.raises(Refused, match="out of range"):
        Zoo(**knobs)
