"""The trimmed mean and Bulyan against byzfl, a loop, and what f forged updates can do to them."""

import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Refused
from consilium.core.merge import Cohort
from consilium.core.update import Update
from consilium.defend.merge._bulyan_selection import chosen_one_by_one
from consilium.defend.merge._coordinate_trim import mean_around_median
from consilium.defend.merge.bulyan import Bulyan
from consilium.defend.merge.krum import Krum
from consilium.defend.merge.trimmed_mean import TrimmedMean


def test_it_is_byzfls_trimmed_mean(merging):
    expected = [-1.2857142857142858, -2.7142857142857144, -0.14285714285714285, 3.4285714285714284]
    torch.testing.assert_close(merging(TrimmedMean(2), merging.GRID), torch.tensor(expected).double())


def test_the_mean_around_the_median_is_byzfls_meamed(merging):
    """The second step of Bulyan alone: 7 of 11 values of each coordinate (byzfl: Meamed(f=4)), none tied."""
    shift = torch.tensor([[0.013 * i * i * (1 + j) for j in range(4)] for i in range(11)]).double()
    expected = [-0.8177142857142858, -2.705714285714286, 1.2611428571428573, 6.185714285714285]
    out = mean_around_median(7, merging.GRID + shift)
    torch.testing.assert_close(out, torch.tensor(expected).double(), rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2), min_size=5, max_size=8))
def test_each_coordinate_is_the_mean_between_its_extremes(rows):
    updates = [Update(f"{i}", 1, 1.0, {"delta": torch.tensor(row)}) for i, row in enumerate(rows)]
    out = TrimmedMean(2).merge().merge(updates, {})[0].payload["delta"]
    expected = [sum(sorted(column)[2:-2]) / (len(rows) - 4) for column in zip(*rows, strict=True)]
    torch.testing.assert_close(out, torch.tensor(expected), rtol=1e-5, atol=0.1)


@pytest.mark.parametrize("forged", [1e18, -1e18, float("inf"), float("nan")])
def test_f_forged_updates_leave_every_coordinate_among_the_honest(merging, forged):
    honest = torch.randn(9, 20, generator=torch.Generator().manual_seed(4))
    rows = torch.cat([honest, torch.full((2, 20), forged)])
    for rule in (TrimmedMean(2), Bulyan(2)):
        out = merging(rule, rows)
        assert (out >= honest.amin(0)).all() and (out <= honest.amax(0)).all()
    assert not (rows.mean(0) <= honest.amax(0)).all() or not (rows.mean(0) >= honest.amin(0)).all()


def test_one_more_than_f_moves_it_without_bound(merging):
    rows = torch.cat([torch.zeros(4, 3), torch.full((3, 3), 1e12)])
    assert merging(TrimmedMean(3), rows).abs().max() == 0
    assert merging(TrimmedMean(2), rows).min() > 1e11


def bulyan_by_hand(rows, f):
    """The paper's two steps in plain loops."""
    rest, chosen = list(range(len(rows))), []
    while len(chosen) < len(rows) - 2 * f:
        count = max(1, len(rest) - f - 2)
        scores = {i: sum(sorted(float(((rows[i] - rows[j]) ** 2).sum()) for j in rest if j != i)[:count]) for i in rest}
        chosen.append(min(rest, key=lambda i: scores[i]))
        rest.remove(chosen[-1])
    size, out = len(chosen) - 2 * f, []
    for column in rows[chosen].T.tolist():
        median = statistics.median(column)
        out.append(sum(sorted(column, key=lambda value, median=median: abs(value - median))[:size]) / size)
    return chosen, torch.tensor(out).double()


@pytest.mark.parametrize(("n", "f"), [(7, 1), (8, 1), (11, 2), (3, 0)])
def test_bulyan_is_the_papers_two_steps(merging, n, f):
    rows = torch.randn(n, 12, generator=torch.Generator().manual_seed(n))
    chosen, expected = bulyan_by_hand(rows.double(), f)
    distances = torch.cdist(rows.double(), rows.double()) ** 2
    assert chosen_one_by_one(distances, f, n - 2 * f) == chosen
    torch.testing.assert_close(merging(Bulyan(f), rows).double(), expected, rtol=1e-5, atol=1e-6)


def test_bulyan_bounds_the_one_coordinate_that_krum_lets_through(merging):
    """An update that is like the honest ones in a thousand coordinates and far off in one."""
    g = torch.Generator().manual_seed(6)
    rows = torch.randn(7, 1000, generator=g)
    rows[5] = rows[[0, 1, 2, 3, 4, 6]].mean(0)
    rows[5, 0] += 20.0
    assert merging(Krum(1), rows)[0] > 10
    assert merging(Bulyan(1), rows)[0].abs() < 3


@pytest.mark.parametrize(("rule", "text"), [(TrimmedMean, r"2f \+ 1 = 5"), (Bulyan, r"4f \+ 3 = 11")])
def test_too_few_sites_are_refused_with_the_numbers(rule, text):
    with pytest.raises(Refused, match=f"{rule.kind()} with byzantine = 2 needs {text} updates a round, and 4 are"):
        rule(2).check_cohort(Cohort(4, 1))
    with pytest.raises(Refused, match="and 1 are expected"):
        rule(1).check_cohort(Cohort(1, 1))
    with pytest.raises(Refused, match="this merge needs"):
        rule(2).merge().merge([Update("a", 1, 1.0, {"delta": torch.zeros(2)})], {})
