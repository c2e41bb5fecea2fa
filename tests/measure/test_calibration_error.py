"""Calibration error and Brier score: by hand, against scikit-learn, with planted faults, and how often limits hold."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.measure.confidence.brier import brier_score
from consilium.measure.confidence.calibration_error import expected_calibration_error
from consilium.measure.intervals import wilson


def error(logits, y, units=None, seed=0):
    return expected_calibration_error(logits, y, torch.arange(len(y)) if units is None else units, Stream(seed))


def score(logits, y, units=None):
    return brier_score(logits, y, torch.arange(len(y)) if units is None else units)


def calibrated(n, classes=3, seed=0, scale=2.0):
    """Logits whose softmax is the truth."""
    g = torch.Generator().manual_seed(seed)
    z = scale * torch.randn(n, classes, generator=g)
    return z, torch.multinomial(torch.softmax(z, 1), 1, generator=g)[:, 0]


def binned(confidence, right):
    """ECE record by record, bins ((b - 1)/15, b/15]."""
    total = 0.0
    for b in range(15):
        inside = [i for i, c in enumerate(confidence) if b / 15 < c <= (b + 1) / 15]
        if inside:
            gap = sum(right[i] for i in inside) / len(inside) - sum(confidence[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(gap)
    return total


def test_the_error_by_hand():
    """Confidence 0.9, three of four right; 0.6, one of two: (4 |0.75 - 0.9| + 2 |0.5 - 0.6|) / 6."""
    p = torch.tensor([0.9] * 4 + [0.6] * 2, dtype=torch.float64)
    logits = torch.stack([p, 1 - p], 1).log()
    assert error(logits, torch.tensor([0, 0, 0, 1, 0, 1])).value == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)


@pytest.mark.parametrize("classes", [2, 10])
def test_the_error_agrees_with_one_that_goes_record_by_record(classes):
    z, y = calibrated(300, classes)
    top = torch.softmax(2 * z.double(), 1).max(1)
    assert error(2 * z, y).value == pytest.approx(binned(top.values.tolist(), (top.indices == y).tolist()))


@pytest.mark.parametrize("classes", [2, 5])
def test_the_brier_score_agrees_with_sklearn(classes):
    z, y = calibrated(200, classes)
    p = torch.softmax(z.double(), 1)
    wanted = brier_score_loss(y, p[:, 1]) if classes == 2 else brier_score_loss(y, p.numpy(), labels=range(classes))
    made = score(z, y)
    assert made.value == pytest.approx(wanted) and made.low < made.value < made.high
    prior = torch.bincount(y) / len(y)
    constant = score(prior.log().expand(len(y), -1), y)
    assert made.chance == pytest.approx(constant.value)


def test_a_planted_miscalibration_is_found_and_its_mending_too():
    z, y = calibrated(2000)
    sharp, mended = error(4 * z, y), error(4 * z / 4, y)
    assert sharp.low > 2 * sharp.chance and sharp.low > 0.05
    assert mended.low == 0 and mended.value < 1.5 * mended.chance
    assert score(4 * z, y).value > score(z, y).value


def test_the_floor_is_what_calibrated_models_have_on_average():
    z, _ = calibrated(150)
    g = torch.Generator().manual_seed(5)
    drawn = [torch.multinomial(torch.softmax(z, 1), 1, generator=g)[:, 0] for _ in range(200)]
    values = [error(z, y).value for y in drawn]
    floor, spread = error(z, drawn[0]).chance, np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values) - floor) < 4 * spread
    assert floor > 3 * error(*calibrated(4000)).chance  # it falls with n: without it few records look miscalibrated


@pytest.mark.parametrize(("scale", "n"), [(1.0, 60), (1.0, 500), (1.3, 200), (3.0, 60), (3.0, 500)])
def test_the_limits_hold_the_error_of_endless_records(scale, n):
    many = calibrated(400_000, seed=99)
    top = torch.softmax(scale * many[0].double(), 1).max(1)
    place = (top.values * 15).ceil().long() - 1
    right = (top.indices == many[1]).double()
    truth = sum(float((right - top.values)[place == b].sum().abs()) for b in range(15)) / 400_000
    found = [error(scale * z, y) for z, y in (calibrated(n, seed=seed) for seed in range(150))]
    assert np.mean([m.low <= truth + 2e-3 and truth - 2e-3 <= m.high for m in found]) >= 0.93


def test_copies_of_patients_are_no_more_records():
    z, y = calibrated(100)
    units = torch.arange(100).repeat(4)
    many, once = error(3 * z.repeat(4, 1), y.repeat(4), units), error(3 * z, y)
    assert many.value == pytest.approx(once.value) and many.low == pytest.approx(once.low, abs=0.02)
    assert error(3 * z.repeat(4, 1), y.repeat(4)).low > once.low + 0.02  # what it would be without patients
    few, single = score(z.repeat(4, 1), y.repeat(4), units), score(z, y)
    assert few.high - few.low == pytest.approx(single.high - single.low, rel=0.05)


def test_thirty_right_answers_are_no_certainty():
    y = torch.arange(30) % 2
    logits = 60.0 * torch.eye(2)[y]
    made, exact = error(logits, y), score(logits, y)
    assert made.value == pytest.approx(0) and made.high == pytest.approx(1 - wilson(30, 30)[0])
    assert exact.value == pytest.approx(0) and exact.high > 0.02


def test_logarithms_of_probabilities_are_read_as_their_logits():
    z, y = calibrated(100)
    told = torch.log_softmax(z, 1)
    for make in (error, score):
        assert make(told, y).value == pytest.approx(make(z, y).value, rel=1e-5)


def test_what_is_no_answer_is_undefined():
    z, y = calibrated(10)
    z[3, 1] = math.nan
    for make in (error, score):
        assert make(z, y).value is None and "NaN for 1 of 10" in make(z, y).reason
        assert "no records" in make(z[:0], y[:0]).reason
        assert "+inf" in make(torch.full_like(z, math.inf), y).reason
        with pytest.raises(Refused, match="do not fit"):
            make(z, y[:-1])
