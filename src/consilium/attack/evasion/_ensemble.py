"""What an ensemble says of itself: how many records each part fooled, and what speaks against the figure.

    answers that differ          the model is randomised, and one answer is no verdict
    answers that sum to one      probabilities were given for logits, and their differences vanish
    gradients that are zero      nothing leads there, which is no robustness
    answers beat gradients       a search without gradients fools what gradients could not: they are masked

Source: Croce and Hein 2020, arXiv 2003.01690, and the flags of its code; Carlini et al. 2019, arXiv 1902.06705
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from consilium.core.finding import RED_FLAG
from consilium.core.threat import ModelView
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.maximise import ascent
from consilium.learn.perturbation.task_loss import attack_loss

from ._evasion import stand_in

__all__ = ["ensemble_flags", "fooled_by_parts", "zero_gradients"]

_BATCH = 256
_ALIKE = 1e-5
"""By how much two answers to one input may differ, and probabilities miss a sum of one."""
_BEATEN = 0.002
"""The share of the records that the part without gradients may fool beyond the others."""


def fooled_by_parts(fooled_by: Tensor, before: Tensor, names: Sequence[str]) -> str:
    """How many of the records that were right ``before (n,)`` are left after each part, in one sentence.

    ``fooled_by (n,)`` is the number of the part that fooled a record, from 1, else 0.
    """
    n, remaining, shown = len(before), int(before.sum()), []
    for number, name in enumerate(names, start=1):
        remaining -= int((fooled_by == number).sum())
        shown.append(f"{remaining} after {name}")
    return f"Of {n} records {int(before.sum())} were answered rightly, {', '.join(shown)}."


def ensemble_flags(view: ModelView, fooled_by: Tensor, names: Sequence[str]) -> tuple[str, ...]:
    """The red flags of a figure, as sentences; the last of ``names`` is the part without gradients."""
    n = len(fooled_by)
    with torch.no_grad():
        first, again = (view.module(view.targets.x[:_BATCH]) for _ in range(2))
    difference = float((first - again).abs().max())
    zero, beaten = int(zero_gradients(view).sum()), int((fooled_by == len(names)).sum())
    flags = []
    if difference > _ALIKE:
        flags.append(f"two answers to the same inputs differ by up to {difference:.3g}: one answer is no verdict")
    if bool((first >= -_ALIKE).all()) and bool(((first.sum(1) - 1).abs() < _ALIKE).all()):
        flags.append("the answers sum to one: they are probabilities, and the attacks need logits")
    if zero:
        flags.append(f"the gradient is exactly zero for {zero} of {n} records: nothing leads there")
    if beaten > _BEATEN * n:
        flags.append(f"{names[-1]} fooled {beaten} of {n} records that no gradient fooled: gradients may be masked")
    return tuple(f"{RED_FLAG}{flag}." for flag in flags)


def zero_gradients(view: ModelView) -> Tensor:
    """Where the margin's gradient at a record is exactly zero, bool ``(n,)``."""
    loss, goal = attack_loss("margin", view.task), Misclassification(view.task)
    parts = zip(torch.split(view.targets.x, _BATCH), torch.split(view.targets.y, _BATCH), strict=True)
    return torch.cat([~ascent(stand_in(view), x, y, loss, goal)[0].flatten(1).any(1) for x, y in parts])
