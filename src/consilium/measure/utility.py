"""How well a model answers: figures of its logits on records that it never saw.

    sensitivity = TP / (TP + FN)     specificity = TN / (TN + FP)     balanced accuracy = mean recall over classes

With two classes the positive one is index 1; with more, sensitivity, specificity and AUROC are means over one class
against the rest.  Intervals: Wilson for one proportion, MOVER for a mean of several (the bootstrap has zero width at
perfection), the bootstrap within classes for AUROC.  ``chance`` is uniform guessing; for accuracy, always answering
the commonest class.  What a missing class leaves undefined is None with the reason.

Source: Brodersen et al. 2010 (balanced accuracy); Hand and Till 2001 (several classes).
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.finding import Measure
from consilium.core.random import Stream

from .confidence.probabilities import check_answers, no_answers, probabilities
from .intervals import mean_of_proportions, wilson
from .ranking import auc_interval

__all__ = ["is_collapsed", "utility"]

_NAMES = (
    "accuracy",
    "balanced_accuracy",
    "auroc",
    "sensitivity",
    "specificity",
    "majority_rate",
    "predicted_majority_share",
)
_COLLAPSED = 0.95


def utility(logits: Tensor, y: Tensor, stream: Stream) -> tuple[Measure, ...]:
    """Seven figures of ``logits (n, classes)`` for ``y (n,)``; ``stream`` resamples for AUROC.

    accuracy, balanced_accuracy, auroc, sensitivity, specificity, majority_rate (of y), predicted_majority_share.
    Logits may be -inf (rounded answers); a NaN leaves every figure undefined.
    """
    check_answers(logits, y)
    n, classes = logits.shape
    if reason := no_answers(logits):
        return tuple(Measure.undefined(name, reason, n) for name in _NAMES)
    logits, y = logits.detach().cpu(), y.cpu()
    table = torch.bincount(y * classes + logits.argmax(1), minlength=classes * classes).view(classes, classes)
    actual, predicted = table.sum(1), table.sum(0)
    majority = int(actual.max())
    return (
        _proportion("accuracy", int(table.trace()), n, majority / n),
        *_by_class(table, logits, y, stream),
        _proportion("majority_rate", majority, n, 1 / classes),
        _proportion("predicted_majority_share", int(predicted.max()), n, 1 / classes),
    )


def is_collapsed(logits: Tensor) -> bool:
    """Whether more than 95 % of the answers ``(n, classes)`` are one class (LAWS 19), or any is NaN."""
    if not len(logits):
        return False
    counts = torch.bincount(logits.argmax(1).cpu())
    return bool(logits.isnan().any()) or int(counts.max()) > _COLLAPSED * len(logits)


def _by_class(table: Tensor, logits: Tensor, y: Tensor, stream: Stream) -> tuple[Measure, ...]:
    n, classes = len(y), len(table)
    actual = table.sum(1)
    missing = [c for c in range(classes) if actual[c] == 0]
    if missing:
        reason = "no record of class " + ", ".join(map(str, missing))
        return tuple(Measure.undefined(name, reason, n) for name in _NAMES[1:5])
    hits, totals = table.diagonal().tolist(), actual.tolist()
    # TN_c are the records outside class c that were not answered c.
    rejected = [n - totals[c] - int(table[:, c].sum()) + hits[c] for c in range(classes)]
    outside = [n - total for total in totals]
    if classes == 2:
        return (
            _mean("balanced_accuracy", hits, totals, 0.5, n),
            _auroc(logits, y, stream),
            _proportion("sensitivity", hits[1], totals[1], 0.5),
            _proportion("specificity", rejected[1], outside[1], 0.5),
        )
    return (
        _mean("balanced_accuracy", hits, totals, 1 / classes, n),
        _auroc(logits, y, stream),
        _mean("sensitivity", hits, totals, 1 / classes, n),
        _mean("specificity", rejected, outside, 1 - 1 / classes, n),
    )


def _auroc(logits: Tensor, y: Tensor, stream: Stream) -> Measure:
    shares = probabilities(logits)
    columns = [shares[:, 1]] if shares.shape[1] == 2 else list(shares.unbind(1))
    value, low, high = auc_interval(columns, y, stream.child("auroc"))
    return Measure("auroc", value, low, high, 0.5, len(y))


def _proportion(name: str, k: int, n: int, chance: float) -> Measure:
    return Measure(name, k / n, *wilson(k, n), chance, n)


def _mean(name: str, successes: list[int], totals: list[int], chance: float, n: int) -> Measure:
    value = sum(k / m for k, m in zip(successes, totals, strict=True)) / len(totals)
    return Measure(name, value, *mean_of_proportions(successes, totals), chance, n)
