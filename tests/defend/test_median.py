"""The coordinate-wise median against its definition, and against what a minority can do to it."""

import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.core.errors import Failed, Refused
from consilium.core.update import Update
from consilium.defend.merge.median import Median


def updates(rows, weights=None):
    weights = weights or [1.0] * len(rows)
    return [
        Update(f"site-{i}", 1, w, {"delta": torch.as_tensor(r), "buffers": torch.as_tensor(r)[:1]})
        for i, (r, w) in enumerate(zip(rows, weights, strict=True))
    ]


def merged(rows, weights=None):
    return Median().merge().merge(updates(rows, weights), {})[0]


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=7))
def test_it_is_the_median_of_the_standard_library(rows):
    expected = torch.tensor([statistics.median(column) for column in zip(*rows, strict=True)])
    torch.testing.assert_close(merged(torch.tensor(rows)).payload["delta"], expected)


def test_weights_are_ignored_and_reported_in_sum():
    rows = torch.tensor([[1.0], [2.0], [9.0]])
    aggregate = merged(rows, [1.0, 1.0, 1000.0])
    assert aggregate.payload["delta"].item() == 2.0
    assert (aggregate.weight, aggregate.count) == (1002.0, 3)


@pytest.mark.parametrize("forged", [1e30, float("inf"), float("-inf"), float("nan")])
def test_a_minority_cannot_leave_the_range_of_the_honest(forged):
    honest = torch.randn(5, 20)
    rows = torch.cat([honest, torch.full((4, 20), forged)])
    out = merged(rows).payload["delta"]
    assert (out >= honest.amin(0)).all()
    assert (out <= honest.amax(0)).all()
    assert not (rows.mean(0) <= honest.amax(0)).all() or not (rows.mean(0) >= honest.amin(0)).all()


def test_a_majority_of_nonsense_fails_aloud():
    with pytest.raises(Failed, match="not finite"):
        merged([[1.0], [float("nan")], [float("nan")]])


def test_payloads_must_agree_and_the_odd_site_is_named():
    bad = [*updates([[1.0, 2.0], [3.0, 4.0]]), Update("odd", 1, 1.0, {"delta": torch.zeros(3)})]
    with pytest.raises(Refused, match="odd"):
        Median().merge().merge(bad, {})


def test_it_must_see_each_update():
    assert Median().merge().reads == "each"
