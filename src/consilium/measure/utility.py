"""How well a model answers: figures of its logits on records that it never saw.

    sensitivity = TP / (TP + FN)     specificity = TN / (TN + FP)     balanced accuracy = mean recall over classes

With two classes the positive one is index 1; with more, sensitivity, specificity and AUROC are means over one class
against the rest.  Intervals: Wilson for one proportion, MOVER for a mean of several (the bootstrap has zero width at
perfection), the bootstrap within classes for AUROC.  ``chance`` is uniform guessing; for accuracy, always answering
the commonest class.  What a missing class leaves undefined is None with the reason.

Source: Brodersen et al. 2010 (balanced accuracy); Hand and Till 2001 (several classes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from consilium.core.finding import Measure
from consilium.core.random import Stream

from .clustered import area_limits, mean_share, several, share_measure
from .confidence.probabilities import check_answers, no_answers, probabilities
from .ranking import auc_interval

__all__ = ["below_chance", "is_collapsed", "utility"]

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


def utility(logits: Tensor, y: Tensor, stream: Stream, units: Tensor | None = None) -> tuple[Measure, ...]:
    """Seven figures of ``logits (n, classes)`` for ``y (n,)``; ``stream`` resamples for AUROC.

    accuracy, balanced_accuracy, auroc, sensitivity, specificity, majority_rate (of y), predicted_majority_share.
    Logits may be -inf (rounded answers); a NaN leaves every figure undefined.  Where ``units (n,)`` have several
    records, the intervals are by unit (:mod:`.clustered`).
    """
    check_answers(logits, y)
    n, classes = logits.shape
    if reason := no_answers(logits):
        return tuple(Measure.undefined(name, reason, n) for name in _NAMES)
    logits, y = logits.detach().cpu(), y.cpu()
    table = torch.bincount(y * classes + logits.argmax(1), minlength=classes * classes).view(classes, classes)
    actual, predicted = table.sum(1), table.sum(0)
    majority, answered = int(actual.max()), logits.argmax(1)
    return (
        share_measure("accuracy", answered == y, units, majority / n),
        *_by_class(table, logits, y, units, stream),
        share_measure("majority_rate", y == actual.argmax(), units, 1 / classes),
        share_measure("predicted_majority_share", answered == predicted.argmax(), units, 1 / classes),
    )


def below_chance(measures: Sequence[Measure]) -> bool:
    """Whether an AUROC, a c-index or the accuracy in two classes lies below chance with its whole interval."""
    levels = dict.fromkeys(("auroc", "macro_auroc", "c_index"), 0.5)
    if any(m.name == "majority_rate" and m.chance == 0.5 for m in measures):
        levels["accuracy"] = 0.5
    return any(m.name in levels and m.high is not None and m.high < levels[m.name] for m in measures)


def is_collapsed(logits: Tensor) -> bool:
    """Whether more than 95 % of the answers ``(n, classes)`` are one class (LAWS 19), or any is NaN."""
    if not len(logits):
        return False
    counts = torch.bincount(logits.argmax(1).cpu())
    return bool(logits.isnan().any()) or int(counts.max()) > _COLLAPSED * len(logits)


def _by_class(table: Tensor, logits: Tensor, y: Tensor, units: Tensor | None, stream: Stream) -> tuple[Measure, ...]:
    n, classes = len(y), len(table)
    actual = table.sum(1)
    missing = [c for c in range(classes) if actual[c] == 0]
    if missing:
        reason = "no record of class " + ", ".join(map(str, missing))
        return tuple(Measure.undefined(name, reason, n) for name in _NAMES[1:5])
    answered, of = logits.argmax(1), several(units)
    inside = [(answered[y == c] == c, y == c) for c in range(classes)]
    # TN_c are the records outside class c that were not answered c.
    outside = [(answered[y != c] != c, y != c) for c in range(classes)]
    if classes == 2:
        return (
            mean_share("balanced_accuracy", inside, of, 0.5),
            _auroc(logits, y, of, stream),
            share_measure("sensitivity", inside[1][0], _at(units, inside[1][1]), 0.5),
            share_measure("specificity", outside[1][0], _at(units, outside[1][1]), 0.5),
        )
    return (
        mean_share("balanced_accuracy", inside, of, 1 / classes),
        _auroc(logits, y, of, stream),
        mean_share("sensitivity", inside, of, 1 / classes),
        mean_share("specificity", outside, of, 1 - 1 / classes),
    )


def _at(units: Tensor | None, mask: Tensor) -> Tensor | None:
    return None if units is None else units.cpu()[mask]


def _auroc(logits: Tensor, y: Tensor, of: NDArray[np.int64] | None, stream: Stream) -> Measure:
    shares = probabilities(logits)
    columns = [shares[:, 1]] if shares.shape[1] == 2 else list(shares.unbind(1))
    if of is None:
        return Measure("auroc", *auc_interval(columns, y, stream.child("auroc")), 0.5, len(y))
    limits = area_limits(columns, y, of)
    return Measure("auroc", *limits, 0.5, len(y), unit_count=int(of.max()) + 1)
