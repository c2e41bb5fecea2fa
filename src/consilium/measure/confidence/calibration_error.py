"""Expected calibration error: how far the confidence of an answer is from how often such answers are right.

    ECE = sum over bins b of (n_b / n) |accuracy_b - confidence_b|

Confidence is the probability of the answered class (top label); there are 15 bins of equal width, ((b - 1)/15, b/15].
That is the field's standard (the default of torchmetrics and netcal), and **biased upwards**: every bin's accuracy is
off by its own sampling noise, and distances do not cancel.  So ``chance`` is the sampling floor, the mean ECE of a
perfectly calibrated model that answers these very records with these confidences; a value near it is no miscalibration.

The interval is of the error without that noise, by resampling units (patients).  With e_b what a resample moves the gap
of bin b by, low = ECE - q(sum |e_b|) (by the triangle inequality the noise adds no more), high = q(resampled ECE),
q the 97.5 % quantiles.  As ECE is at least |mean confidence - accuracy|, high is at least that distance at Wilson's
limits of the accuracy of as many records as there are units: where nothing was answered wrongly no resample is either.

Source: Naeini et al. 2015, Obtaining Well Calibrated Probabilities Using Bayesian Binning; Guo et al. 2017, arXiv
1706.04599, eq. 3; Kumar et al. 2019, arXiv 1909.10155 (bias); Nixon et al. 2019, arXiv 1904.01685 (binning).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.measure.intervals import wilson

from .by_unit import resampled_sums, unit_sums
from .probabilities import check_answers, no_answers, probabilities

__all__ = ["expected_calibration_error"]

_NAME = "expected_calibration_error"
_BINS = 15
_REPEATS = 1000
_CHUNK = 4_000_000
_Floats = NDArray[np.float64]


def expected_calibration_error(logits: Tensor, y: Tensor, units: Tensor, stream: Stream) -> Measure:
    """Of ``logits (n, classes)`` for ``y (n,)``; the records of a unit in ``units (n,)`` are resampled together.

    A NaN leaves it undefined.  Raises Refused where shapes or labels do not fit.
    """
    check_answers(logits, y)
    n, reason = len(y), no_answers(logits)
    if reason or not (shares := probabilities(logits.detach().cpu())).isfinite().all():
        return Measure.undefined(_NAME, reason or "the model answers +inf", n)
    answered = logits.detach().cpu().argmax(1)
    confidence: _Floats = shares.gather(1, answered[:, None])[:, 0].numpy()
    right: _Floats = (answered == y.cpu()).numpy().astype(np.float64)
    inside = _bins(confidence)
    sums = unit_sums(np.c_[inside * (right - confidence)[:, None], np.ones(n)], units.cpu().numpy())
    gaps = sums[:, :-1].sum(0) / n
    value = float(np.abs(gaps).sum())
    low, high = _limits(sums, gaps, stream.child("units"))
    apart = _apart(float(confidence.mean()), float(right.mean()), len(sums))
    floor = _floor(confidence, inside, stream.child("floor"))
    return Measure(_NAME, value, max(0.0, value - low), min(1.0, max(value, high, apart)), floor, n)


def _bins(confidence: _Floats) -> _Floats:
    """Which bin each confidence is in, one-hot ``(n, 15)``."""
    place = np.clip(np.ceil(confidence * _BINS) - 1, 0, _BINS - 1).astype(np.int64)
    hot: _Floats = np.eye(_BINS)[place]
    return hot


def _limits(sums: _Floats, gaps: _Floats, stream: Stream) -> tuple[float, float]:
    """97.5 % quantiles of the noise alone, and of the resampled ECE."""
    resamples = resampled_sums(sums, stream, _REPEATS)
    moved = resamples[:, :-1] / resamples[:, -1:]
    noise, values = np.abs(moved - gaps).sum(1), np.abs(moved).sum(1)
    return float(np.quantile(noise, 0.975)), float(np.quantile(values, 0.975))


def _apart(confidence: float, accuracy: float, units: int) -> float:
    """The largest distance of the mean confidence from an accuracy that ``units`` records allow."""
    low, high = wilson(round(accuracy * units), units)
    return max(confidence - low, high - confidence)


def _floor(confidence: _Floats, inside: _Floats, stream: Stream) -> float:
    """Mean ECE where each answer is right with the probability that it claims."""
    generator, n = np.random.default_rng(stream.number()), len(confidence)
    errors = []
    for first in range(0, _REPEATS, size := max(1, _CHUNK // n)):
        rows = min(size, _REPEATS - first)
        right = generator.random((rows, n)) < confidence
        errors.append(np.abs((right - confidence) @ inside).sum(1) / n)
    return math.fsum(np.concatenate(errors).tolist()) / _REPEATS
