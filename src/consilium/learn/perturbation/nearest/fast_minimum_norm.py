"""Fast minimum norm: steps along the gap's gradient in a ball whose radius follows the distance to the boundary.

    radius <- (1 + gamma) (|d| + |gap| / |grad gap|_q)   until the goal was reached once
    radius <- (1 -+ gamma) radius                        from then on, as it is reached or not
    d <- P(d + a grad gap / |grad gap|_2)                on the ball of that radius

Step a and gamma fall by a cosine.  The derivative at a feature that 0 or 1 stops counts as zero, without which most
records of images with black ground are never fooled; the first factor leads beyond the boundary of a linear model.
  For "l0" the radius is a number of features, and changes by at least one.

Source: Pintor et al. 2021, Fast Minimum-norm Adversarial Attacks, arXiv 2102.12827
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from consilium.learn.perturbation.ball import AnyNorm, stopped
from consilium.learn.perturbation.balls import size_of
from consilium.learn.perturbation.l2 import L2

from .boundary import Boundary
from .closest import Closest
from .dual import dual_size, limited_rows

__all__ = ["fast_minimum_norm"]

_LAST_STEP, _LAST_GAMMA = 0.01, 0.001


def fast_minimum_norm(
    boundary: Boundary, x: Tensor, y: Tensor, *, norm: AnyNorm, steps: int, step_size: float, gamma: float
) -> Tensor:
    """The nearest point ``(n, *shape)`` of ``steps`` that reaches the goal, by ``norm``; x without one."""
    closest, rows = Closest.of(x), torch.arange(len(x), device=x.device)
    farthest = size_of(torch.maximum(x, 1 - x), norm)
    delta, once = torch.zeros_like(x), torch.zeros(len(x), dtype=torch.bool, device=x.device)
    radii = torch.full_like(farthest, 1 if norm == "l0" else math.inf)
    for step in range(steps):
        share = (1 + math.cos(math.pi * step / steps)) / 2
        rate = step_size * (_LAST_STEP + (1 - _LAST_STEP) * share)
        pace = _LAST_GAMMA + (gamma - _LAST_GAMMA) * share
        gradient, gaps, reached = boundary.slope(x + delta, y)
        gradient = gradient if norm == "l0" else stopped(gradient, x + delta)
        size = size_of(delta, norm)
        closest.offer(rows, x + delta, size, reached)
        once |= reached
        least = torch.minimum(closest.distances, farthest)
        if norm == "l0":
            radii = _counts(radii, reached, pace, least)
        else:
            ahead = (1 + pace) * (size + gaps.abs() / dual_size(gradient, norm))
            shrunk = torch.minimum((1 - pace) * radii, least)
            radii = torch.where(reached, shrunk, torch.where(once, (1 + pace) * radii, ahead.nan_to_num(math.inf)))
        radii = torch.minimum(radii, farthest)
        delta = limited_rows(delta + rate * L2(0).steepest(gradient), norm, radii)
        delta = (x + delta).clamp(0, 1) - x
    closest.offer(rows, x + delta, size_of(delta, norm), boundary.reached(x + delta, y))
    return closest.points


def _counts(radii: Tensor, reached: Tensor, pace: float, least: Tensor) -> Tensor:
    """The numbers of features that may change next ``(n,)``: at least one fewer or more."""
    fewer = torch.minimum(torch.minimum(radii - 1, ((1 - pace) * radii).floor()), least)
    more = torch.maximum(radii + 1, ((1 + pace) * radii).floor())
    return torch.where(reached, fewer, more).clamp_min(0)
