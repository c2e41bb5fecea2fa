"""Attacks that see labels alone: the gap is that of accuracies, and distances are those of a plane."""

import pytest
import torch

from consilium.attack.membership.label_boundary import LabelBoundary
from consilium.attack.membership.label_gap import LabelGap
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import QueryView
from consilium.learn.tasks.single_label import SingleLabel


def plane(x):
    """Class 1 above 0.5 in the first value."""
    return torch.stack([0.5 - x[:, 0], x[:, 0] - 0.5], 1)


def view(x, y, member=None):
    n = len(x)
    member = torch.arange(n) % 2 == 0 if member is None else member
    return QueryView(2, plane, Records.of(x, y), member, torch.arange(n) % 4 < 2, task=SingleLabel())


def run(entry, seen, seed=0):
    return entry(seen, {}, torch.Generator().manual_seed(seed))


def test_the_gap_is_that_of_the_accuracies():
    """All members right, half of the others wrong: advantage one half."""
    n = 800
    x, member = torch.rand(n, 3, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 2 == 0
    y = (x[:, 0] > 0.5).long()
    wrong = ~member & (torch.arange(n) % 8 < 4)
    seen = view(x, torch.where(wrong, 1 - y, y), member)
    finding = run(LabelGap(), seen)
    assert finding["advantage"].value == pytest.approx(0.5) and seen.queries == [n]
    assert set(finding.scores["score"].tolist()) == {0.0, 1.0}


def test_the_distance_grows_with_that_to_the_plane_and_is_0_where_the_answer_is_wrong():
    x = torch.full((40, 20), 0.5)
    x[:, 0] = torch.linspace(0.51, 0.9, 40)
    y = torch.ones(40, dtype=torch.long)
    y[0] = 0
    score = run(LabelBoundary(queries=4001, steps=8), view(x, y)).scores["score"]
    assert score[0] == 0
    ranks = torch.corrcoef(torch.stack([score[1:].argsort().argsort().float(), torch.arange(39).float()]))
    assert ranks[0, 1] > 0.95


def test_bisection_finds_the_radius_along_a_direction():
    """From 0.8 straight down the plane at 0.5 is 0.3 away; upwards there is no boundary within the radius."""
    entry, x = LabelBoundary(queries=13, steps=12), torch.tensor([[0.8, 0.5], [0.8, 0.5]])
    u = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    down, up = entry._along(view(x, torch.ones(2).long()), x, torch.ones(2).long(), u).tolist()
    assert down == pytest.approx(0.3, abs=1e-3) and up == pytest.approx(1.0, abs=1e-3)


def test_queries_stay_within_the_budget_and_are_counted():
    x = torch.rand(50, 3, generator=torch.Generator().manual_seed(1))
    seen = view(x, (x[:, 0] > 0.5).long())
    run(LabelBoundary(queries=14, steps=4), seen)
    assert seen.queries == [50 * (1 + 3 * 4)]  # 13 are three directions and the record itself
    wrong = view(x, (x[:, 0] <= 0.5).long())
    run(LabelBoundary(queries=14, steps=4), wrong)
    assert wrong.queries == [50], "a record that is answered wrongly needs no search"


@pytest.mark.parametrize("knobs", [{"queries": 5}, {"steps": 0}, {"radius": 0.0}])
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refused):
        LabelBoundary(**knobs)
