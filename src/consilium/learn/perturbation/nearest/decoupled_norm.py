"""Decoupled direction and norm: steps along the loss's gradient, on a sphere that shrinks after every success.

    d <- d + a u(grad L),   radius <- (1 -+ gamma) radius as the goal is reached or not,   d <- radius d / |d|

The step a falls from 1 to 0.01 by a cosine; every point at which the goal is reached is a candidate.

Source: Rony et al. 2019, Decoupling Direction and Norm, arXiv 1811.09600
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from consilium.learn.perturbation.ball import per_row, tiny
from consilium.learn.perturbation.l2 import L2

from .boundary import Boundary
from .closest import Closest

__all__ = ["decoupled_norm"]

_LAST = 0.01


def decoupled_norm(boundary: Boundary, x: Tensor, y: Tensor, *, steps: int, gamma: float, start: float) -> Tensor:
    """The nearest point ``(n, *shape)`` of ``steps`` that reaches the goal, by the Euclidean length; x without one.

    ``start`` is the first radius.
    """
    ball, closest, rows = L2(0), Closest.of(x), torch.arange(len(x), device=x.device)
    farthest = ball.size(torch.maximum(x, 1 - x))
    delta, radii = torch.zeros_like(x), torch.full_like(farthest, start)
    for step in range(steps):
        gradient, _, reached = boundary.slope(x + delta, y)
        closest.offer(rows, x + delta, ball.size(delta), reached)
        length = _LAST + (1 - _LAST) * (1 + math.cos(math.pi * step / steps)) / 2
        delta = delta + length * ball.steepest(gradient)
        radii = torch.minimum(torch.where(reached, 1 - gamma, 1 + gamma) * radii, farthest)
        size = ball.size(delta)
        delta = (x + delta * per_row(radii / size.clamp_min(tiny(size)), delta)).clamp(0, 1) - x
    closest.offer(rows, x + delta, ball.size(delta), boundary.reached(x + delta, y))
    return closest.points
