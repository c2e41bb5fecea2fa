"""The number that a refusal proposes is one that is not refused again."""

import re

import pytest

from consilium.core.errors import Unlawful
from consilium.core.gradient import Schedule
from consilium.core.merge import Cohort
from consilium.defend.training.dp_sgd import DPSGD
from consilium.defend.update.dp_fed_avg import DPFedAvg
from consilium.learn.mean_gradient import MeanGradient


def rule(delta):
    return DPSGD(noise_multiplier=1.0, delta=delta).rule(MeanGradient())


@pytest.mark.parametrize("n", [389, 15, 667, 1500, 7])
def test_the_delta_that_a_refusal_proposes_is_accepted(n):
    """1/389 = 0.002571: "below 0.003" would be refused again."""
    with pytest.raises(Unlawful) as e:
        rule(1.01 / n).batch_of(n, Schedule(1, 1, 1))
    limit, example = re.search(r"use a delta below (\S+), such as (\S+)$", e.value.remedy).groups()
    assert float(limit) * n <= 1
    for delta in (float(limit) * (1 - 1e-6), float(example)):
        assert rule(delta).batch_of(n, Schedule(1, 1, 1)) == 1


def test_what_a_refusal_proposes_is_accepted():
    """15 sites: 1/15 = 0.0667, and "below 0.07" would be refused again; half of 1.00005 is not "above 0.5"."""
    with pytest.raises(Unlawful) as e:
        DPFedAvg(noise_multiplier=1.0, delta=0.068).promise(Cohort(15, 2))
    assert float(e.value.remedy.split("below ")[1].split(":")[0]) * 15 <= 1
    with pytest.raises(Unlawful) as e:
        DPFedAvg(noise_multiplier=1.00005, quantile=0.5, count_noise=0.4).promise(Cohort(400, 2))
    assert float(e.value.remedy.split("above ")[1].split(",")[0]) > 1.00005 / 2
