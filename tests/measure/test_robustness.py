"""Robust accuracy by hand, and worst case per record."""

import pytest
import torch

from consilium.core.errors import Refused
from consilium.measure.intervals import wilson
from consilium.measure.robustness import robust_accuracy, worst_case

Y = torch.tensor([0, 0, 0, 0, 1, 1])


def mask(text):
    return torch.tensor([c == "1" for c in text])


def test_by_hand():
    plain, balanced = robust_accuracy(mask("111010"), Y)
    assert (plain.name, plain.value, plain.chance, plain.n) == ("robust_accuracy", pytest.approx(4 / 6), 4 / 6, 6)
    assert (plain.low, plain.high) == wilson(4, 6)
    assert (balanced.name, balanced.value, balanced.chance) == ("balanced_robust_accuracy", 0.625, 0.5)
    assert balanced.low < 0.625 < balanced.high


def test_the_worst_case_is_per_record_not_per_attack():
    """Each attack alone leaves .5; together nothing is left."""
    first, second = mask("111000"), mask("000111")
    assert [robust_accuracy(m, Y)[0].value for m in (first, second)] == [0.5, 0.5]
    assert worst_case([first, second], Y)[0].value == 0
    assert worst_case([first], Y)[0].value == 0.5


def test_a_class_that_is_absent_does_not_count():
    assert robust_accuracy(mask("11"), torch.tensor([2, 2]))[1].value == 1


def test_what_does_not_fit():
    assert all(m.reason for m in robust_accuracy(mask(""), Y[:0]))
    with pytest.raises(Refused):
        robust_accuracy(mask("1"), Y)
    with pytest.raises(Refused):
        worst_case([], Y)
