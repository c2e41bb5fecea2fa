"""Divide and conquer: scores by a singular value decomposition, colluders that are near, draws with an address."""

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.merge import Cohort
from consilium.core.random import Stream
from consilium.defend.merge._spectral_outliers import outlier_scores
from consilium.defend.merge.divide_and_conquer import DivideAndConquer


def test_scores_are_those_of_a_singular_value_decomposition():
    rows = torch.randn(9, 60, generator=torch.Generator().manual_seed(1)).double()
    centred = rows - rows.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    torch.testing.assert_close(outlier_scores(rows), (centred @ directions[0]) ** 2)


def test_colluders_within_the_honest_spread_are_left_out_where_the_mean_is_shifted(merging):
    """All send the mean less one and a half deviations (ALIE): each is nearer to the mean than an honest one is."""
    honest = torch.randn(16, 2000, generator=torch.Generator().manual_seed(2))
    forged = honest.mean(0) - 1.5 * honest.std(0)
    rows = torch.cat([honest, forged.expand(4, 2000)])
    out = merging(DivideAndConquer(4), rows)
    torch.testing.assert_close(out, honest.mean(0), rtol=1e-4, atol=1e-5)
    assert float((rows.mean(0) - honest.mean(0)).norm()) > 10


@pytest.mark.parametrize("forged", [1e18, float("nan")])
def test_f_that_are_far_off_are_left_out(merging, forged):
    honest = torch.randn(6, 40, generator=torch.Generator().manual_seed(3))
    rows = torch.cat([honest, torch.full((2, 40), forged)])
    torch.testing.assert_close(merging(DivideAndConquer(2), rows), honest.mean(0))


def test_coordinates_are_drawn_from_an_address(merging):
    """Few coordinates: another round draws others, the same round the same."""
    rows = torch.randn(9, 500, generator=torch.Generator().manual_seed(4))
    rule = DivideAndConquer(2, coordinates=5).merge_for(Cohort(9, 3), Stream(7))
    outs = [rule.merge(merging.updates(rows, round=r), {})[0].payload["delta"] for r in (1, 1, 2, 3, 4)]
    assert torch.equal(outs[0], outs[1]) and not all(torch.equal(outs[0], out) for out in outs[2:])


def test_preconditions_are_refused_with_the_numbers():
    with pytest.raises(Refused, match=r"needs 2f \+ 1 = 5 updates a round, and 4 are expected"):
        DivideAndConquer(2).check_cohort(Cohort(4, 1))
    with pytest.raises(
        Refused, match=r"may leave out 9 updates \(3 times factor x byzantine = 3\), and 9 are expected"
    ):
        DivideAndConquer(2, iterations=3, factor=1.5).check_cohort(Cohort(9, 1))
    DivideAndConquer(2, iterations=3, factor=1.5).check_cohort(Cohort(10, 1))
    with pytest.raises(Refused, match="coordinates: 0 is out of range"):
        DivideAndConquer(coordinates=0)
