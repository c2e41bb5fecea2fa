"""What the tasks share: accuracy, answers without figures, and how alike rows are."""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.finding import Measure
from consilium.measure.clustered import share_measure

__all__ = ["accuracy", "commonest", "no_figures"]


def no_figures(answers: Tensor, score: str) -> tuple[Measure, ...]:
    """Accuracy and ``score``, undefined, where there are no answers or some are not finite; nothing where all are."""
    n, lost = len(answers), int((~answers.isfinite()).flatten(1).any(1).sum()) if len(answers) else 0
    if n and not lost:
        return ()
    reason = f"the model answers NaN or an infinite number for {lost} of {n} records" if n else "there are no records"
    return tuple(Measure.undefined(name, reason, n) for name in ("accuracy", score))


def accuracy(right: Tensor, units: Tensor, most_right: int) -> Measure:
    """The share of ``right (n,)``, its interval by the ``units (n,)``; chance is the best constant answer."""
    return share_measure("accuracy", right, units, most_right / len(right))


def commonest(rows: Tensor) -> int:
    """How often the commonest row of ``rows (n, ...)`` stands there."""
    if not len(rows):
        return 0
    _, counts = torch.unique(rows.reshape(len(rows), -1), dim=0, return_counts=True)
    return int(counts.max())
