"""Randomised response: the published probability, uniform other labels, drawn once, and the epsilon it claims."""

import math

import pytest
import torch
from scipy import stats

from consilium.core.charge import RandomisedResponse
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.defend.data.label_randomised_response import LabelRandomisedResponse
from consilium.measure.accounting.privacy import epsilon


def records(n=20_000, classes=4):
    return Records.of(torch.zeros(n, 1), torch.arange(n) % classes)


def transitions(defence, classes=4, n=20_000):
    """How often each label became each other, ``(classes, classes)``."""
    before = records(n, classes)
    after = defence.protect(before, classes, Stream(1))
    table = torch.zeros(classes, classes)
    return table.index_put_((before.y, after.y), torch.ones(n), accumulate=True)


@pytest.mark.parametrize("classes", [2, 4, 10])
@pytest.mark.parametrize("eps", [0.5, 2.0])
def test_labels_stay_with_the_published_probability(eps, classes):
    table = transitions(LabelRandomisedResponse(eps), classes)
    keep = math.exp(eps) / (math.exp(eps) + classes - 1)
    assert stats.binomtest(int(table.diagonal().sum()), 20_000, keep).pvalue > 1e-4
    off = table[~torch.eye(classes, dtype=torch.bool)]
    if classes > 2:
        assert stats.chisquare(off.numpy()).pvalue > 1e-4
    # A neighbouring formula, p = e^eps / (e^eps + k), is told apart at this n.
    wrong = math.exp(eps) / (math.exp(eps) + classes)
    assert stats.binomtest(int(table.diagonal().sum()), 20_000, wrong).pvalue < 1e-4


def test_the_likelihood_ratio_is_e_to_the_epsilon():
    """The definition of the guarantee: no label answers any output e^eps times more often than another."""
    defence, classes = LabelRandomisedResponse(1.3), 5
    other = (1 - defence.keep(classes)) / (classes - 1)
    assert math.log(defence.keep(classes) / other) == pytest.approx(1.3)
    assert defence.charge(classes) == RandomisedResponse(1.3, classes)
    assert epsilon([defence.charge(classes)], 1e-5).epsilon == 1.3


def test_it_is_drawn_once_per_address_and_touches_labels_only():
    defence, before = LabelRandomisedResponse(1.0), records(100)
    kept = before.y.clone()
    one, two = (defence.protect(before, 4, Stream(1)) for _ in range(2))
    assert torch.equal(one.y, two.y)
    assert not torch.equal(one.y, defence.protect(before, 4, Stream(2)).y)
    assert one.x is before.x
    assert one.ids is before.ids
    assert torch.equal(before.y, kept)


def test_a_large_epsilon_still_flips_with_a_probability_that_coins_of_53_bits_have():
    assert 1 - LabelRandomisedResponse(30.0).keep(10) > 2**-53
    with pytest.raises(Refused, match="at most 30"):
        LabelRandomisedResponse(31.0)


def test_nonsense_is_refused():
    with pytest.raises(Refused, match="epsilon"):
        LabelRandomisedResponse(0.0)
    with pytest.raises(Refused, match="two classes"):
        LabelRandomisedResponse().protect(records(10, 1), 1, Stream(0))
