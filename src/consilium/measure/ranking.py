"""The area under the ROC curve: how often a positive scores above a negative, ties counting half.

    AUC = P(s+ > s-) + P(s+ = s-) / 2            (Mann-Whitney), macro over classes one against the rest

The interval resamples within each class, so that no resample lacks one.  A resample is a vector of counts, and all
one-against-rest problems share it: one sort per class and one pass over counts, no score is ever sorted again.

Source: Hanley and McNeil 1982; Efron 1979.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from consilium.core.random import Stream

from .intervals import wilson

__all__ = ["Ranking", "auc", "auc_interval"]

_Floats = npt.NDArray[np.float64]
_CHUNK = 2_000_000
"""Counts held at once while resampling."""


def auc(scores: Tensor, positive: Tensor) -> float:
    """AUC of ``scores (n,)`` for ``positive (n,)`` bool; both kinds must be present."""
    column = Ranking(scores.double().cpu().numpy(), positive.bool().cpu().numpy())
    return float(column.areas(np.ones((1, len(scores))))[0])


def auc_interval(
    scores: Sequence[Tensor], strata: Tensor, stream: Stream, repeats: int = 1000
) -> tuple[float, float, float]:
    """The macro AUC and its percentile interval.

    ``scores[c] (n,)`` ranks stratum c against the rest; one score alone ranks stratum 1 of two.  Every stratum must be
    present.  Where all resamples agree (perfect separation) the bootstrap is blind, and Wilson's interval at the
    smallest stratum's size is used.
    """
    labels = strata.cpu().numpy()
    classes = [1] if len(scores) == 1 else list(range(len(scores)))
    columns = [Ranking(s.double().cpu().numpy(), labels == c) for s, c in zip(scores, classes, strict=True)]
    value = float(np.mean([column.areas(np.ones((1, len(labels))))[0] for column in columns]))
    generator, areas = np.random.default_rng(stream.number()), []
    for first in range(0, repeats, size := max(1, _CHUNK // len(labels))):
        counts = _resample(labels, min(size, repeats - first), generator)
        areas.append(np.mean([column.areas(counts) for column in columns], axis=0))
    low, high = np.quantile(np.concatenate(areas), [0.025, 0.975])
    if high - low < 1e-12:
        n = int(np.bincount(labels.astype(np.int64)).min())
        low, high = wilson(round(value * n), n)
    return value, float(min(low, value)), float(max(high, value))


def _resample(labels: npt.NDArray[np.int64], repeats: int, generator: np.random.Generator) -> _Floats:
    """How often each record is drawn, ``(repeats, n)``: with replacement, each label's count kept."""
    counts = np.empty((repeats, len(labels)))
    for label in np.unique(labels):
        place = np.flatnonzero(labels == label)
        m = len(place)
        resample = generator.integers(m, size=(repeats, m)) + np.arange(repeats)[:, None] * m
        counts[:, place] = np.bincount(resample.ravel(), minlength=repeats * m).reshape(repeats, m)
    return counts


class Ranking:
    """One ranking, sorted once; its figures under many sets of counts ``(r, n)`` of its records."""

    def __init__(self, scores: _Floats, positive: npt.NDArray[np.bool_]) -> None:
        self.order = np.argsort(scores, kind="stable")
        ranked = scores[self.order]
        self.starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        self.positive = positive[self.order].astype(np.float64)

    def areas(self, counts: _Floats) -> _Floats:
        """AUCs ``(r,)``: positives times the negatives below them, tied ones by half; NaN where one kind is absent."""
        plus, every = self._steps(counts)
        minus = every - plus
        below = np.cumsum(minus, axis=1) - minus / 2
        return _ratio(np.einsum("ij,ij->i", plus, below), plus.sum(1) * minus.sum(1))

    def precisions(self, counts: _Floats) -> _Floats:
        """Average precisions ``(r,)``: the sum over steps of (R_j - R_{j-1}) P_j; NaN where no record is positive."""
        plus, every = (part[:, ::-1] for part in self._steps(counts))
        precision = _ratio(np.cumsum(plus, axis=1), np.cumsum(every, axis=1))
        return _ratio(np.einsum("ij,ij->i", plus, np.nan_to_num(precision)), plus.sum(1))

    def _steps(self, counts: _Floats) -> tuple[_Floats, _Floats]:
        """Positives and all records at each score, from the lowest: tied ones are one step of the curve."""
        ordered = np.take(counts, self.order, axis=1)
        plus = ordered * self.positive
        if len(self.starts) < len(self.order):
            plus, ordered = (np.add.reduceat(part, self.starts, axis=1) for part in (plus, ordered))
        return plus, ordered


def _ratio(above: _Floats, below: _Floats) -> _Floats:
    """NaN where there is nothing to divide by."""
    ratio: _Floats = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
    return ratio
