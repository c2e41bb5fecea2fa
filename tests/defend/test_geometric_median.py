"""The geometric median: its fixed point, byzfl after 20,000 steps, and how far a minority by weight can move it."""

import pytest
import torch

from consilium.core.errors import Failed, Refused
from consilium.core.merge import Cohort
from consilium.defend.merge.geometric_median import GeometricMedian


def pull(rows, weights, z):
    """||sum_k w_k (z - x_k) / ||z - x_k|| ||, of weights with sum 1: 0 at the median."""
    weights = torch.as_tensor(weights).double() / sum(weights)
    differences = z.double() - rows.double()
    return float((weights[:, None] * differences / differences.norm(dim=1, keepdim=True)).sum(0).norm())


def test_it_is_byzfls_after_twenty_thousand_steps(merging):
    """byzfl 0.0.11: GeometricMedian(nu=1e-6, T=20000); its default of three steps from zero is elsewhere."""
    expected = [-1.1182936079425592, -1.7011984205566129, 0.7262683289628334, 2.754689534024385]
    out = merging(GeometricMedian(tolerance=1e-9, iterations=100_000), merging.GRID)
    torch.testing.assert_close(out, torch.tensor(expected).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_unit_vectors_sum_to_nothing(merging, seed):
    g = torch.Generator().manual_seed(seed)
    rows, weights = torch.randn(9, 40, generator=g).double(), (1 + 9 * torch.rand(9, generator=g)).tolist()
    out = merging(GeometricMedian(), rows, weights)
    assert pull(rows, weights, out) < 2e-6
    assert pull(rows, weights, rows.mean(0)) > 1e-3


def test_on_a_line_it_is_the_weighted_median(merging):
    """Weights 1, 1, 1, 5: the last is the median; and an update that is the median is met."""
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [9.0, 0.0]])
    torch.testing.assert_close(merging(GeometricMedian(), rows, [1.0, 1.0, 1.0, 5.0]), rows[3], atol=1e-5, rtol=0)
    torch.testing.assert_close(merging(GeometricMedian(), rows[:3]), rows[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("forged", [1e3, 1e9, 1e18])
def test_less_than_half_of_the_weight_moves_it_a_bounded_way(merging, forged):
    """The textbook bound: 2 (1 - a) / (1 - 2 a) times the honest updates' distance, of a forged share a."""
    honest = torch.randn(6, 30, generator=torch.Generator().manual_seed(5))
    rows, weights = torch.cat([honest, torch.full((4, 30), forged)]), [2.0] * 6 + [2.0] * 4
    centre = merging(GeometricMedian(), honest)
    reach = float((honest - centre).norm(dim=1).max())
    assert float((merging(GeometricMedian(), rows, weights) - centre).norm()) <= 2 * 0.6 / 0.2 * reach
    assert float((rows.mean(0) - centre).norm()) > 100 * reach


def test_half_of_the_weight_in_one_site_is_the_result(merging):
    rows = torch.cat([torch.randn(6, 30, generator=torch.Generator().manual_seed(5)), torch.full((1, 30), 1e4)])
    out = merging(GeometricMedian(), rows, [1.0] * 6 + [7.0])
    torch.testing.assert_close(out, rows[6], rtol=1e-6, atol=0)


def test_every_part_has_a_median_of_its_own(merging):
    """A delta like the others' does not let a forged buffer in."""
    updates = merging.updates(torch.randn(5, 8, generator=torch.Generator().manual_seed(2)))
    updates[2].payload["buffers"].fill_(1e12)
    assert GeometricMedian().merge().merge(updates, {})[0].payload["buffers"].abs() < 10


def test_it_ends_at_the_stated_step(merging):
    out = merging(GeometricMedian(iterations=1), merging.GRID)
    assert pull(merging.GRID, [1.0] * 11, out) > 1e-3


def test_a_majority_that_is_not_finite_fails_aloud_and_knobs_are_checked(merging):
    rows = torch.tensor([[1.0], [float("nan")], [float("nan")]])
    with pytest.raises(Failed, match="2 of 3 updates are not finite"):
        merging(GeometricMedian(), rows)
    for knob in ({"smoothing": 0.0}, {"tolerance": 1.0}, {"iterations": 0}):
        with pytest.raises(Refused, match="out of range"):
            GeometricMedian(**knob)
    assert GeometricMedian().weakness(Cohort(2, 1)) and not GeometricMedian().weakness(Cohort(3, 1))
