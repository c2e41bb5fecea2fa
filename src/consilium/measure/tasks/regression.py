"""How far numbers are from the truth.

    MAE = mean |a - y|       chance: always answering the median of these records
    R2 = 1 - sum (a - y)^2 / sum (y - mean y)^2       chance 0: always answering their mean; below 0 is worse than that

Intervals resample units (patients) with all their records.

Source: Wright 1921 (R2); Efron 1979.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.measure.confidence.by_unit import resampled_sums, unit_sums

__all__ = ["regression_figures"]

_Floats = NDArray[np.float64]


def regression_figures(
    answers: Tensor, y: Tensor, units: Tensor, labels: Sequence[str], stream: Stream
) -> tuple[Measure, ...]:
    """R2 and MAE of finite ``answers (n, k)`` for ``y (n, k)``: their means over k quantities, then each by its name.

    Raises Refused: shapes that do not fit.
    """
    if answers.shape != y.shape or y.dim() != 2 or len(labels) != y.shape[1]:
        raise Refused(f"answers {tuple(answers.shape)}, labels {tuple(y.shape)} and {len(labels)} names do not fit")
    truth: _Floats = y.double().numpy()
    error: _Floats = answers.double().numpy() - truth
    ids: NDArray[np.int64] = units.numpy()
    samples = [_resampled(error[:, k], truth[:, k], ids, stream.child("units")) for k in range(len(labels))]
    r2, mae = _r2(error, truth, [d[0] for d in samples], labels), _mae(error, truth, [d[1] for d in samples], labels)
    return (r2[0], mae[0], *(r2[1:] if len(labels) > 1 else ()), *(mae[1:] if len(labels) > 1 else ()))


def _resampled(error: _Floats, truth: _Floats, units: NDArray[np.int64], stream: Stream) -> tuple[_Floats, _Floats]:
    """R2 (NaN where the truth is constant) and MAE ``(repeats,)``, with other units."""
    shifted = truth - truth.mean()  # for the sake of precision
    columns = np.stack([np.abs(error), error**2, shifted, shifted**2, np.ones(len(error))], 1)
    absolute, square, total, squares, n = resampled_sums(unit_sums(columns, units), stream).T
    spread = squares - total**2 / n
    r2 = np.full(len(n), np.nan)
    np.divide(square, spread, out=r2, where=spread > 1e-12 * max(1.0, float(squares.max())))
    return 1 - r2, absolute / n


def _r2(error: _Floats, truth: _Floats, samples: list[_Floats], labels: Sequence[str]) -> list[Measure]:
    n, spread = len(truth), ((truth - truth.mean(0)) ** 2).sum(0)
    if not (spread > 0).all():
        reason = "the truth is the same in all records"
        return [Measure.undefined(name, reason, n) for name in ("r2", *(f"r2[{label}]" for label in labels))]
    values = 1 - (error**2).sum(0) / spread
    return _figures("r2", values, samples, [0.0] * len(labels), labels, n)


def _mae(error: _Floats, truth: _Floats, samples: list[_Floats], labels: Sequence[str]) -> list[Measure]:
    chance = np.abs(truth - np.median(truth, axis=0)).mean(0)
    return _figures("mean_absolute_error", np.abs(error).mean(0), samples, chance.tolist(), labels, len(truth))


def _figures(
    name: str, values: _Floats, samples: list[_Floats], chance: list[float], labels: Sequence[str], n: int
) -> list[Measure]:
    mean = _measure(name, float(values.mean()), np.mean(samples, axis=0), float(np.mean(chance)), n)
    each = [_measure(f"{name}[{label}]", float(values[k]), samples[k], chance[k], n) for k, label in enumerate(labels)]
    return [mean, *each]


def _measure(name: str, value: float, samples: _Floats, chance: float, n: int) -> Measure:
    there = samples[np.isfinite(samples)]
    if not len(there):
        return Measure(name, value, None, None, chance, n)
    low, high = np.quantile(there, [0.025, 0.975])
    return Measure(name, value, float(min(low, value)), float(max(high, value)), chance, n)
