"""The square attack: where the answer is known, what it may ask, and beside the authors' code."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.attack.evasion._sparse_squares import MOVES
from consilium.attack.evasion.pgd import PGD
from consilium.attack.evasion.square import Square
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.perturbation.balls import size_of
from consilium.learn.tasks.single_label import SingleLabel


def run(attack, view, seed=0):
    return attack(view, {}, torch.Generator().manual_seed(seed))


class Counting(nn.Module):
    """Counts how often it is asked about each record, which is known by its first pixel."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.asked = inner, 0

    def forward(self, x):
        self.asked += len(x)
        return self.inner(x)


def test_a_linear_model_falls_exactly_where_a_corner_of_the_ball_crosses():
    """On a linear model the worst point is a corner, and squares of one pixel reach it."""
    g = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).requires_grad_(False)
    model[1].weight.copy_(torch.randn(2, 16, generator=g))
    model[1].bias.zero_()
    x = 0.3 + 0.4 * torch.rand(60, 1, 4, 4, generator=g)
    y = model(x).argmax(1)
    answers = model(x)
    lead = answers.gather(1, y[:, None])[:, 0] - answers.gather(1, 1 - y[:, None])[:, 0]
    reach = 0.1 * (model[1].weight[0] - model[1].weight[1]).abs().sum()
    finding = run(Square(radius=0.1, queries=600), ModelView(2, model, None, Records.of(x, y), task=SingleLabel()))
    assert torch.equal(finding.scores["correct"], lead > reach)
    assert 0.1 < finding["robust_accuracy"].value < 0.9


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.1), ("l2", 1.0), ("l1", 1.5)])
def test_it_lies_between_nothing_and_the_white_box(view, norm, radius):
    clean, square, white = (
        run(attack, view)["robust_accuracy"].value
        for attack in (PGD(radius=1e-9), Square(radius=radius, norm=norm, queries=200), PGD(radius=radius, norm=norm))
    )
    assert clean > square + 0.1 and square >= white - 0.01


@pytest.mark.parametrize("restarts", [1, 3])
def test_the_budget_is_spent_and_never_exceeded(restarts):
    """A model that nothing fools is asked exactly as often as allowed, about each record."""
    module = Counting(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).requires_grad_(False))
    module.inner[1].weight.zero_()
    module.inner[1].bias.copy_(torch.tensor([1.0, 0.0]))
    view = ModelView(2, module, None, Records.of(torch.rand(5, 1, 2, 2), torch.zeros(5).long()), task=SingleLabel())
    Square(queries=21, restarts=restarts).craft(view, view.targets.x, view.targets.y, torch.Generator())
    assert module.asked == 5 * (21 + 1)  # the judge looks once more


def test_more_queries_and_restarts_never_hurt(view):
    few = run(Square(radius=0.1, queries=20), view)["robust_accuracy"].value
    many = run(Square(radius=0.1, queries=300, restarts=2), view)["robust_accuracy"].value
    assert many < few - 0.05


def test_a_record_depends_on_no_other(view):
    """The first records alone are changed as they are among all, as long as they are searched."""
    attack = Square(radius=0.05, queries=50)
    x, y = view.targets.x[:64], view.targets.y[:64]
    together = attack.craft(view, x, y, torch.Generator().manual_seed(0))
    alone = attack.craft(view, x[:7], y[:7], torch.Generator().manual_seed(0))
    assert torch.allclose(together[:7], alone, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (3, 5, 4), (1, 8, 8)])
def test_moves_stay_in_the_ball_and_change_something(norm, shape):
    g = torch.Generator().manual_seed(0)
    moves, x = MOVES[norm](0.3, g), torch.rand(6, *shape, generator=g)
    best = moves.start(x)
    for side in (1, 2, 4):
        height, width = min(side, shape[1]), min(side, shape[2])
        after = moves.moved(x, best, height, width)
        assert (after != best).flatten(1).any(1).all() or norm != "linf"
        best = after
        assert (
            size_of(best - x, norm).max() <= 0.3 + 1e-5
            and best.min() >= 0
            and best.max() <= 1
            and best.isfinite().all()
        )


def test_tables_are_rows_of_features():
    model = nn.Linear(6, 2, bias=False).requires_grad_(False)
    model.weight.copy_(torch.tensor([[1.0, -1.0] * 3, [-1.0, 1.0] * 3]))
    x = torch.full((4, 6), 0.5) + 0.02 * torch.tensor([1.0, -1.0] * 3)
    view = ModelView(2, model, None, Records.of(x, torch.zeros(4).long()), task=SingleLabel())
    assert run(Square(radius=0.03, queries=200), view)["robust_accuracy"].value == 0
    assert run(Square(radius=0.01, queries=200), view)["robust_accuracy"].value == 1


@pytest.mark.parametrize(("knobs", "said"), [({"queries": 0}, "0 is"), ({"queries": 3, "restarts": 3}, "3 is"),
                                             ({"radius": 0.0}, "0.0 is"), ({"share": 1.5}, "1.5 is"),
                                             ({"restarts": 0}, "0 is")])  # fmt: skip
def test_a_knob_out_of_range_is_refused_by_name(knobs, said):
    with pytest.raises(Refused, match=said):
        Square(**knobs)


def test_a_defence_without_surrogate_is_attacked_all_the_same(view):
    assert run(Square(radius=0.2, queries=100), replace(view, surrogate=None))["robust_accuracy"].value < 0.8


@pytest.mark.parametrize(("norm", "radius", "theirs"), [("linf", 0.1, 0.617), ("l2", 1.0, 0.196)])
def test_it_is_as_strong_as_the_authors_code_at_equal_queries(view, norm, radius, theirs):
    """``theirs``: pyautoattack 0.2.0, SquareAttack(n_queries=300), the best of seeds 0 to 2 on this network."""
    assert run(Square(radius=radius, norm=norm, queries=300), view)["robust_accuracy"].value <= theirs
    weak = run(Square(radius=radius, norm=norm, queries=10), view)["robust_accuracy"].value
    assert weak > theirs  # so the comparison can fail


def test_the_queries_of_fooled_records_are_a_figure(view):
    """By hand from the scores; records that were wrong before cost one query and are not counted."""
    finding = run(Square(radius=0.1, queries=60), view)
    before, spent = finding.scores["correct_before"], finding.scores["queries"]
    fooled = spent[before & ~finding.scores["correct"]]
    assert finding["queries"].value == fooled.double().median() and finding["queries"].n == len(fooled) > 30
    assert finding["queries"].low <= finding["queries"].value <= finding["queries"].high
    assert (spent[~before] == 1).all() and (spent[finding.scores["correct"]] == 60).all()


def test_without_a_fooled_record_there_is_no_median(view):
    figure = run(Square(radius=1e-6, queries=3), view)["queries"]
    assert figure.value is None and "none of the" in figure.reason


def test_records_that_the_goal_is_not_for_cost_nothing(view):
    finding = run(Square(radius=0.2, queries=40, goal="source-to-target", source=3, target=8), view)
    assert (finding.scores["queries"][view.targets.y != 3] == -1).all()
    assert finding["queries"].n == round(finding["success_rate"].value * finding["success_rate"].n) > 0
