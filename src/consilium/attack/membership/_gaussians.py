"""Two Gaussians per record: what shadow models answer that learned from it, and what those answer that did not.

The mean is the record's own.  So is the deviation where ``each`` is set; else the squared deviations from the records'
own means are pooled over all records, which few shadows need.

Source: Carlini et al. 2022, Membership Inference Attacks From First Principles, arXiv 2112.03570.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["likelihood_ratio", "standing_out"]

_NARROW = 1e-6
"""No deviation is smaller: shadows that all answer alike would make a ratio of infinities."""


def likelihood_ratio(phi: Tensor, shadows: Tensor, included: Tensor, each: bool = False) -> Tensor:
    """Online scores ``(n,)`` of ``phi (n,)`` against ``shadows (m, n)``; ``included (m, n)``: trained on the record."""
    (mean_in, wide_in), (mean_out, wide_out) = _normal(shadows, included, each), _normal(shadows, ~included, each)
    return _log_density(phi, mean_in, wide_in) - _log_density(phi, mean_out, wide_out)


def standing_out(phi: Tensor, shadows: Tensor, included: Tensor, each: bool = False) -> Tensor:
    """Offline scores ``(n,)``: by how many deviations ``phi`` exceeds what models without the record answer."""
    mean, wide = _normal(shadows, ~included, each)
    return (phi - mean) / wide


def _normal(shadows: Tensor, of: Tensor, each: bool) -> tuple[Tensor, Tensor]:
    """Mean and deviation per candidate ``(n,)`` over the shadows that ``of (m, n)`` marks.

    A candidate that none of them marks has the mean of all the others, and one too few the pooled deviation.
    """
    count = of.sum(0)
    mean = (shadows * of).sum(0) / count
    mean = torch.where(count > 0, mean, mean[count > 0].mean())
    squares = ((shadows - mean).square() * of).sum(0)
    free = (count - 1).clamp_min(0)
    pooled = squares.sum() / free.sum().clamp_min(1)
    variance = torch.where(free > 0, squares / free.clamp_min(1), pooled) if each else pooled.expand_as(mean)
    return mean, variance.sqrt().clamp_min(_NARROW)


def _log_density(phi: Tensor, mean: Tensor, wide: Tensor) -> Tensor:
    return -((phi - mean) / wide).square() / 2 - wide.log() - math.log(2 * math.pi) / 2
