"""How much a model favours a record against shadow models, and against how many others it favours it more.

Source: Zarifzadeh, Liu and Shokri 2024, Low-Cost High-Power Membership Inference Attacks, arXiv 2312.03262.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["favour", "share_below"]


def favour(target: Tensor, shadows: Tensor, included: Tensor, a: float | None = None) -> Tensor:
    """ratio ``(n,)`` of probabilities ``target (n,)``, ``shadows (m, n)``, and their members ``(m, n)``.

    Online without ``a``.  Where no shadow, or every one, was trained on a record, the mean over the available shadows
    is used.
    """
    out = _mean(shadows, ~included)
    usual = (_mean(shadows, included) + out) / 2 if a is None else ((1 + a) * out + (1 - a)) / 2
    return target / usual.clamp_min(torch.finfo(torch.float32).tiny)


def share_below(ratio: Tensor, population: Tensor, gamma: float) -> Tensor:
    """For each of ``ratio (n,)`` the share of ``population (z,)`` whose ratio it is at least ``gamma`` times."""
    ranked = population.sort().values
    return torch.searchsorted(ranked, ratio / gamma, right=True).double() / len(ranked)


def _mean(shadows: Tensor, of: Tensor) -> Tensor:
    count = of.sum(0)
    return torch.where(count > 0, (shadows * of).sum(0) / count.clamp_min(1), shadows.mean(0))
