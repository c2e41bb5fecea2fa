"""Intervals against other implementations, and their coverage against the truth."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from consilium.core.errors import Refused
from consilium.measure.intervals import (
    across_seeds,
    bootstrap,
    clopper_pearson,
    difference,
    mean_of_proportions,
    wilson,
)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 10), (3, 10), (10, 10), (1, 1000), (517, 624), (624, 624)])
def test_proportions_agree_with_scipy(k, n):
    test = stats.binomtest(k, n)
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        theirs = test.proportion_ci(method=method)
        assert ours(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_what_is_no_proportion_is_refused(interval, k, n):
    with pytest.raises(Refused, match="not a proportion"):
        interval(k, n)


def test_newcombe_by_his_own_example():
    """Newcombe 1998, table II, method 10: 56/70 - 48/80 and 9/10 - 3/10."""
    assert difference(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert difference(9, 10, 3, 10) == pytest.approx((0.1705, 0.8090), abs=1e-4)


def test_student_by_hand():
    mean, low, high = across_seeds([0.8, 0.9, 1.0])
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (mean, low, high) == pytest.approx((0.9, 0.9 - half, 0.9 + half), abs=1e-6)
    assert across_seeds([0.7]) == (0.7, None, None)
    with pytest.raises(Refused):
        across_seeds([])


def coverage(interval, rates, sizes, repeats=400, seed=0):
    """How often the interval of the mean rate holds the truth."""
    draws = np.random.default_rng(seed).binomial(sizes, rates, size=(repeats, len(sizes)))
    truth = float(np.mean(rates))
    return np.mean([low <= truth <= high for low, high in (interval(row.tolist(), sizes) for row in draws)])


def naive(hits, sizes, z=1.96):
    """Wald: what MOVER must be better than."""
    p = np.array(hits) / np.array(sizes)
    half = z * math.sqrt((p * (1 - p) / sizes).sum()) / len(sizes)
    return p.mean() - half, p.mean() + half


@pytest.mark.parametrize(("rates", "sizes"), [((0.95, 0.98), (20, 20)), ((0.6, 0.3, 0.8), (40, 15, 200))])
def test_the_mean_of_proportions_covers(rates, sizes):
    assert coverage(mean_of_proportions, rates, sizes) >= 0.92


def test_that_coverage_can_fail():
    assert coverage(naive, (0.95, 0.98), (20, 20)) < 0.92


def test_one_proportion_is_wilson():
    assert mean_of_proportions([7], [9]) == pytest.approx(wilson(7, 9))


def test_perfection_is_not_certainty():
    assert mean_of_proportions([10, 10], [10, 10])[0] < 0.9
    assert wilson(10, 10)[0] < 0.8


def test_the_bootstrap_finds_the_standard_error_of_a_mean():
    values = torch.randn(400, generator=torch.Generator().manual_seed(1)).double()
    low, high = bootstrap(lambda v: v.mean(1), values, generator=2, repeats=4000)
    half = 1.96 * float(values.std()) / 20
    assert low == pytest.approx(float(values.mean()) - half, abs=0.01)
    assert high == pytest.approx(float(values.mean()) + half, abs=0.01)


def test_the_bootstrap_resamples_arrays_together_and_is_decided_by_its_seed():
    a = torch.arange(50.0)
    same = bootstrap(lambda u, v: (u - 2 * v[..., 0]).abs().amax(1), 2 * a, a[:, None], generator=0)
    assert same == (0, 0)
    runs = [bootstrap(lambda v: v.mean(1), a, generator=seed) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]
    with pytest.raises(Refused):
        bootstrap(lambda v: v.mean(1), a[:0], generator=0)
