"""The noisy mean: the weighted mean, noise of the stated deviation, and no claim."""

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.merge import Cohort
from consilium.core.random import Stream
from consilium.defend.merge.noisy_mean import NoisyMean

AMONG = Cohort(3, 3)


def test_it_is_the_weighted_mean_and_noise_of_the_stated_deviation(merging):
    rows = torch.randn(3, 50_000, generator=torch.Generator().manual_seed(1))
    mean = (rows * torch.tensor([1.0, 2.0, 5.0])[:, None]).sum(0) / 8
    rule = NoisyMean(0.02).merge_for(AMONG, Stream(2))
    noise = merging(rule, rows, [1.0, 2.0, 5.0]) - mean
    assert float(noise.std()) == pytest.approx(0.02, rel=0.02) and abs(float(noise.mean())) < 4 * 0.02 / 50_000**0.5


def test_draws_have_an_address_and_other_parts_have_no_noise(merging):
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    rule = NoisyMean(0.5).merge_for(AMONG, Stream(2))
    one, again, later = (rule.merge(merging.updates(rows, round=r), {})[0].payload for r in (1, 1, 2))
    assert torch.equal(one["delta"], again["delta"]) and not torch.equal(one["delta"], later["delta"])
    torch.testing.assert_close(later["buffers"], rows.mean(0)[:1])


def test_it_reads_the_sum_and_claims_nothing():
    rule = NoisyMean().merge_for(AMONG, Stream(2))
    assert rule.reads == "sum" and rule.streams and NoisyMean().promise(AMONG) is None
    with pytest.raises(Refused, match=r"deviation: 0\.0 is out of range"):
        NoisyMean(0.0)
