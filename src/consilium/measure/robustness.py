"""Robust accuracy: the share of ALL test records still answered rightly when the adversary may act (LAWS 20).

A record counts only if it is answered rightly as it is and under the attack; under several attacks, only if none
succeeds on it (worst case per record, never the worst attack's mean).  The balanced figure is the mean over classes.

Source: Carlini et al. 2019, On Evaluating Adversarial Robustness, arXiv 1902.06705.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.finding import Measure

from .clustered import mean_share, several, share_measure

__all__ = ["robust_accuracy", "worst_case"]

_NAMES = ("robust_accuracy", "balanced_robust_accuracy")


def robust_accuracy(
    correct: Tensor, y: Tensor | None, most_right: int | None = None, units: Tensor | None = None
) -> tuple[Measure, Measure]:
    """Robust accuracy (Wilson) and its balanced form (MOVER) of ``correct (n,)`` bool for classes ``y (n,)``.

    ``chance`` is what a constant answer keeps whatever the attack: the majority rate, and 1 / classes present.  Where
    the task has no classes, ``y`` is None, ``most_right`` counts what the best constant answer keeps, and there is no
    balanced form.  Where ``units (n,)`` have several records, the intervals are by unit (:mod:`.clustered`).

    Raises Refused: ``correct`` and ``y`` differ in shape.
    """
    if correct.dim() != 1 or (y is not None and correct.shape != y.shape):
        raise Refused(f"correct {tuple(correct.shape)} and labels {None if y is None else tuple(y.shape)} do not fit")
    n = len(correct)
    if n == 0:
        plain, balanced = (Measure.undefined(name, "there are no records") for name in _NAMES)
        return plain, balanced
    if y is None:
        most = None if most_right is None else most_right / n
        reason = "the task has no classes to be balanced over"
        return share_measure(_NAMES[0], correct, units, most), Measure.undefined(_NAMES[1], reason, n)
    right, labels = correct.bool().cpu(), y.cpu()
    masks = [labels == label for label in torch.unique(labels)]
    parts, most = [(right[mask], mask) for mask in masks], max(int(mask.sum()) for mask in masks)
    return (
        share_measure(_NAMES[0], right, units, most / n),
        mean_share(_NAMES[1], parts, several(units), 1 / len(parts)),
    )


def worst_case(correct: Sequence[Tensor], y: Tensor, units: Tensor | None = None) -> tuple[Measure, Measure]:
    """The same two figures where a record counts only if it is right in every mask ``(n,)`` of ``correct``.

    Raises Refused: no mask.
    """
    if not correct:
        raise Refused("a worst case needs at least one attack")
    return robust_accuracy(torch.stack([c.bool() for c in correct]).all(0), y, units=units)
