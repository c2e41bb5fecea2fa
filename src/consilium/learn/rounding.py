"""How far an answer may be off: the same record in another batch goes through other kernels, which round otherwise."""

from __future__ import annotations

from torch import Tensor

__all__ = ["RESOLUTION", "rounding"]

RESOLUTION = 1e-5
"""A lead below this share of the largest answer may turn round when the same record is answered in another batch."""


def rounding(answers: Tensor) -> Tensor:
    """By how much each record's ``answers (n, ...)`` may be off, ``(n,)``; one may be -inf (a probability of 0)."""
    finite = answers.detach().abs().masked_fill(~answers.isfinite(), 0)
    return RESOLUTION * finite.flatten(1).amax(1)
