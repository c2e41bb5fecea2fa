"""How well several findings are answered: each on its own, and their means.

    macro AUROC                mean over findings of AUROC_k                        chance 1/2
    macro average precision    mean over findings of sum_j (R_j - R_{j-1}) P_j      chance: the mean prevalence
    label accuracy             share of all single answers that are right           chance: the commoner answers

A finding that no record has, or every record has, has no AUROC: it is left out of the means, by name.  Intervals
resample units (patients) with all their records; a finding that a resample lacks is left out of that resample's mean.

Source: Hanley and McNeil 1982 (AUROC); Davis and Goadrich 2006 (no interpolation between points); Efron 1979.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.measure.confidence.brier import brier_score
from consilium.measure.confidence.by_unit import drawn_units
from consilium.measure.confidence.calibration_error import expected_calibration_error
from consilium.measure.intervals import wilson
from consilium.measure.paired import bounded_mean
from consilium.measure.ranking import Ranking

__all__ = ["average_precisions", "multi_label_figures"]

_Floats = NDArray[np.float64]
_SHOWN = 5
"""Findings that are named; the others are counted."""


def multi_label_figures(
    logits: Tensor, y: Tensor, units: Tensor, labels: Sequence[str], stream: Stream
) -> tuple[Measure, ...]:
    """Figures of ``logits (n, k)`` for findings ``y (n, k)``; finite logits of at least one record.

    label_accuracy, macro_auroc, macro_average_precision, AUROC and average precision of each finding, brier_score,
    expected_calibration_error; n counts records.

    Raises Refused: shapes that do not fit.
    """
    if logits.shape != y.shape or logits.dim() != 2 or len(labels) != y.shape[1]:
        raise Refused(f"logits {tuple(logits.shape)}, labels {tuple(y.shape)} and {len(labels)} names do not fit")
    two, flat = _as_two_classes(logits, y)
    each = units.repeat_interleave(y.shape[1])
    error = expected_calibration_error(two, flat, each, stream.child("calibration"))
    return (
        _label_accuracy(logits, y, units),
        *_ranked(logits, y, units, labels, stream),
        replace(brier_score(two, flat, each), chance=_no_skill(y), n=len(y), unit_count=0),
        replace(error, n=len(y), unit_count=0),
    )


def _as_two_classes(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Every answer as one of two classes: ``(n k, 2)``, whose softmax is the sigmoid, and labels ``(n k,)``."""
    flat = logits.reshape(-1)
    return torch.stack([torch.zeros_like(flat), flat], 1), y.reshape(-1)


def _no_skill(y: Tensor) -> float:
    """Brier score of answering how common each finding is, the mean over findings."""
    present = y.double().mean(0)
    return float((present * (1 - present)).mean())


def _label_accuracy(logits: Tensor, y: Tensor, units: Tensor) -> Measure:
    right = ((logits > 0).long() == y).double().mean(1)
    present = y.double().mean(0)
    chance = float(torch.maximum(present, 1 - present).mean())
    return Measure("label_accuracy", *bounded_mean(right.numpy(), units.numpy(), 0.0, 1.0), chance, len(y))


def _ranked(logits: Tensor, y: Tensor, units: Tensor, labels: Sequence[str], stream: Stream) -> list[Measure]:
    """The two macro figures, then those of each finding."""
    n, present = len(y), y.sum(0).tolist()
    ranked = [k for k in range(len(labels)) if 0 < present[k] < n]
    if not ranked:
        reason = "every finding is present in all test records, or in none"
        return [Measure.undefined(name, reason, n) for name in ("macro_auroc", "macro_average_precision")]
    curves = [Ranking(logits[:, k].double().numpy(), y[:, k].bool().numpy()) for k in ranked]
    scarcest = [int(min(present[k], n - present[k])) for k in ranked]
    once, macro, each = np.ones((1, n)), [], []
    resamples = _resampled(curves, units.numpy(), stream.child("findings"))
    prevalence = [present[k] / n for k in ranked]
    for name, of, samples, chance in (
        ("auroc", Ranking.areas, resamples[0], [0.5] * len(ranked)),
        ("average_precision", Ranking.precisions, resamples[1], prevalence),
    ):
        values = [float(of(curve, once)[0]) for curve in curves]
        means = np.array([_mean(row) for row in samples.T])
        macro.append(_measure(f"macro_{name}", float(np.mean(values)), means, float(np.mean(chance)), n, min(scarcest)))
        each += [
            _measure(f"{name}[{labels[k]}]", values[j], samples[j], chance[j], n, scarcest[j])
            for j, k in enumerate(ranked)
        ]
    return [*_means_of(macro, labels, ranked), *each, *_unranked(labels, present, n)]


def _means_of(macro: Sequence[Measure], labels: Sequence[str], ranked: Sequence[int]) -> list[Measure]:
    """The means, with the findings that they leave out by name."""
    rest = [repr(label) for k, label in enumerate(labels) if k not in ranked]
    if not rest:
        return list(macro)
    names = ", ".join([*rest[:_SHOWN], *(["..."] if len(rest) > _SHOWN else [])])
    caveat = f"the mean of {len(ranked)} of {len(labels)} findings: all test records have {names}, or none has"
    return [replace(measure, reason=caveat) for measure in macro]


def _unranked(labels: Sequence[str], present: Sequence[int], n: int) -> list[Measure]:
    return [
        Measure.undefined(f"{name}[{label}]", f"{'all' if count else 'none'} of the records have the finding", n)
        for label, count in zip(labels, present, strict=True)
        if count in (0, n)
        for name in ("auroc", "average_precision")
    ]


def _resampled(curves: Sequence[Ranking], units: NDArray[np.int64], stream: Stream) -> tuple[_Floats, _Floats]:
    """AUROC and average precision ``(k, repeats)`` with other units; NaN where a resample lacks a kind."""
    different, of = np.unique(units, return_inverse=True)
    areas: list[list[_Floats]] = [[] for _ in curves]
    precisions: list[list[_Floats]] = [[] for _ in curves]
    for counts in drawn_units(len(different), stream, width=2 * len(units)):
        weights = counts[:, of.ravel()]
        for k, curve in enumerate(curves):
            areas[k].append(curve.areas(weights))
            precisions[k].append(curve.precisions(weights))
    return np.stack([np.concatenate(a) for a in areas]), np.stack([np.concatenate(p) for p in precisions])


def _mean(row: _Floats) -> float:
    there = row[~np.isnan(row)]
    return float(there.mean()) if len(there) else float("nan")


def _measure(name: str, value: float, samples: _Floats, chance: float, n: int, scarcest: int) -> Measure:
    """The percentile interval; where all resamples agree, Wilson's at the number of the scarcer kind."""
    there = samples[~np.isnan(samples)]
    low, high = np.quantile(there, [0.025, 0.975]) if len(there) else (value, value)
    if high - low < 1e-12:
        low, high = wilson(round(value * scarcest), scarcest)
    return Measure(name, value, float(min(low, value)), float(max(high, value)), chance, n)


def average_precisions(scores: Tensor, y: Tensor) -> list[float]:
    """Average precision of each column of ``scores (n, k)`` for ``y (n, k)``; every column has both kinds."""
    once = np.ones((1, len(y)))
    columns = zip(scores.T, y.T, strict=True)
    return [float(Ranking(s.double().numpy(), t.bool().numpy()).precisions(once)[0]) for s, t in columns]
