"""FLAME: the majority by angle, the clip to the median length, and the noise."""

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.merge import Cohort
from consilium.core.random import Stream
from consilium.defend.merge._angle_clusters import majority
from consilium.defend.merge.flame import FLAME

AMONG = Cohort(10, 3)


def honest(n=7, size=400, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=g) + 0.5 * torch.randn(n, size, generator=g)


@pytest.mark.parametrize("scale", [1.0, 50.0, 1e12])
def test_what_points_elsewhere_is_filtered_however_long(merging, scale):
    good = honest()
    bad = scale * honest(3, seed=9)
    rows = torch.cat([good[:4], bad, good[4:]])
    out = merging(FLAME(), rows)
    assert float(torch.cosine_similarity(out, good.mean(0), dim=0)) > 0.99
    assert float((out - good.mean(0)).norm()) < 0.1 * float(good.mean(0).norm())
    assert float((rows.mean(0) - good.mean(0)).norm()) > 2 * float((out - good.mean(0)).norm())


def test_what_is_scaled_up_is_cut_to_the_median_length(merging):
    """Model replacement by the factor n passes the angle, and not the length."""
    rows = honest(9)
    rows[3] *= 1000
    out = merging(FLAME(), rows)
    lengths, unit = rows.norm(dim=1), torch.nn.functional.normalize(rows).double()
    members = majority((1 - unit @ unit.T).clamp(min=0).fill_diagonal_(0))
    cut = rows * (lengths.median() / lengths).clamp(max=1)[:, None]
    assert 3 in members and len(members) >= 5
    torch.testing.assert_close(out, cut[members].mean(0), rtol=1e-4, atol=1e-5)


def test_the_noise_is_lambda_times_the_median_length_and_has_an_address(merging):
    rows = honest(9, size=20_000)
    plain = merging(FLAME(), rows)
    rule = FLAME(noise=0.01).merge_for(AMONG, Stream(3))
    noised = merging(rule, rows)
    assert float((noised - plain).std()) == pytest.approx(0.01 * float(rows.norm(dim=1).median()), rel=0.03)
    assert torch.equal(noised, merging(rule, rows))
    later = rule.merge(merging.updates(rows, round=2), {})[0]
    assert not torch.equal(later.payload["delta"], noised)
    assert torch.equal(later.payload["buffers"], FLAME().merge().merge(merging.updates(rows), {})[0].payload["buffers"])
    assert torch.equal(merging(FLAME(noise=0.0).merge_for(AMONG, Stream(3)), rows), plain)


def test_without_a_cluster_of_a_majority_the_nearest_half_is_taken():
    """Points at right angles are no cluster; one that lies between is the centre."""
    distances = (1 - torch.eye(5)).double()
    distances[2] = distances[:, 2] = 0.6
    distances[2, 2] = 0
    members = majority(distances)
    assert len(members) >= 3 and 2 in members
    assert majority(torch.zeros(4, 4).double()) == [0, 1, 2, 3]
    assert majority(torch.tensor([[0.0, 2.0], [2.0, 0.0]]).double()) == [0, 1]


def test_knobs_and_small_cohorts():
    with pytest.raises(Refused, match=r"noise: -1\.0 is out of range"):
        FLAME(noise=-1.0)
    assert FLAME().weakness(Cohort(2, 1)) and not FLAME().weakness(Cohort(3, 1))
