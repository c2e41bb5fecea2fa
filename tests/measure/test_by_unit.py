"""Resampling by unit: every row draws as many units as there are, and the spread is the known one."""

import numpy as np
import pytest

from consilium.core.random import Stream
from consilium.measure.confidence.by_unit import drawn_units, resampled_sums, unit_sums


def test_sums_are_those_of_each_unit():
    values, units = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([7, 2, 7])
    assert unit_sums(values, units).tolist() == [[3.0, 4.0], [6.0, 8.0]]


def test_every_row_draws_with_replacement():
    counts = np.concatenate(list(drawn_units(30, Stream(0), 400)))
    assert counts.shape == (400, 30) and (counts.sum(1) == 30).all()
    assert counts.max() > 2 and abs((counts == 0).mean() - (1 - 1 / 30) ** 30) < 0.02
    parts = list(drawn_units(30, Stream(0), 400, width=1_000_000))
    assert len(parts) == 100 and sum(map(len, parts)) == 400


def test_the_spread_of_a_mean_is_that_of_its_units():
    values = np.random.default_rng(0).normal(size=(200, 1))
    means = resampled_sums(values, Stream(1), 4000) / 200
    assert means.std() == pytest.approx(values.std() / 200**0.5, rel=0.05)
