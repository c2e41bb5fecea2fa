"""What the tasks share: how far a logit may be off by rounding, which records are wrong, how alike answers are."""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.finding import Measure
from consilium.measure.intervals import wilson

__all__ = ["accuracy", "commonest", "first_wrong", "lost", "rounding"]

_RESOLUTION = 1e-5
"""A lead below this share of the largest answer may turn round when the same record is answered in another batch."""


def rounding(answers: Tensor) -> Tensor:
    """By how much each record's answers may be off, ``(n, 1, ...)``; an answer may be -inf (a probability of 0)."""
    sizes = answers.detach().abs().masked_fill(~answers.isfinite(), 0)
    return _RESOLUTION * sizes.flatten(1).amax(1).view(-1, *(1,) * (answers.dim() - 1))


def first_wrong(wrong: Tensor) -> str:
    """ "record 3 has" or "record 3 and 4 more have", of a mask ``(n,)``."""
    places = wrong.nonzero().flatten().tolist()
    return f"record {places[0]} has" if len(places) == 1 else f"record {places[0]} and {len(places) - 1} more have"


def lost(answers: Tensor) -> str:
    """Why ``answers`` have no figures: there are none, or some are no numbers; empty where they have."""
    if not len(answers):
        return "there are no records"
    count = int((~answers.isfinite()).flatten(1).any(1).sum())
    return f"the model answers NaN or an infinite number for {count} of {len(answers)} records" if count else ""


def accuracy(right: Tensor, most_right: int) -> Measure:
    """The share of ``right (n,)``; chance is the best constant answer."""
    k, n = int(right.sum()), len(right)
    return Measure("accuracy", k / n, *wilson(k, n), most_right / n, n)


def commonest(rows: Tensor) -> int:
    """How often the commonest row of ``rows (n, ...)`` stands there."""
    if not len(rows):
        return 0
    _, counts = torch.unique(rows.reshape(len(rows), -1), dim=0, return_counts=True)
    return int(counts.max())
