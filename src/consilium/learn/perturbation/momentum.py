"""Steps along a decaying sum of gradients, which carries a walk across small valleys and from one model to another.

    g_{t+1} = decay g_t + grad L(x_t) / |grad L(x_t)|_1,   x_{t+1} = P(x_t + a u(g_{t+1}))

Source: Dong et al. 2018, Boosting Adversarial Attacks with Momentum, arXiv 1710.06081 (eq. 6 and 7)
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.gradient import Predict

from .ball import Ball, per_row, tiny
from .goals import Goal
from .losses import AttackLoss
from .maximise import slope

__all__ = ["maximise_with_momentum"]


def maximise_with_momentum(
    predict: Predict,
    x: Tensor,
    y: Tensor,
    *,
    ball: Ball,
    steps: int,
    step_size: float,
    decay: float,
    loss: AttackLoss,
    goal: Goal,
    until: Predict,
) -> Tensor:
    """Inputs ``(n, *shape)`` in the ``ball`` around ``x``; an example stops at the first point that ``until`` accepts.

    ``y (n, ...)`` are the labels.  Nothing is drawn, and the weights' ``.grad`` is never touched.

    Raises Refused: ``predict`` is not differentiable in its input.
    """
    out, alive = x.clone(), torch.arange(len(x), device=x.device)
    point, velocity = x, torch.zeros_like(x)
    for _ in range(steps):
        at = slope(predict, point, y[alive], loss, goal)
        goes_on = ~_reached(predict, until, at.logits, point, y[alive], goal)
        out[alive[~goes_on]] = point[~goes_on]
        alive, point = alive[goes_on], point[goes_on]
        if not len(alive):
            break
        velocity = decay * velocity[goes_on] + _normed(at.gradient[goes_on])
        point = ball.project(point + step_size * ball.steepest(velocity, point), x[alive])
    out[alive] = point
    return out


def _reached(predict: Predict, until: Predict, logits: Tensor, point: Tensor, y: Tensor, goal: Goal) -> Tensor:
    if until is predict:
        return goal.surely(logits, y)
    with torch.no_grad():
        return goal.surely(until(point), y)


def _normed(gradient: Tensor) -> Tensor:
    """Of L1 norm one; zero stays zero."""
    return gradient / per_row(gradient.flatten(1).abs().sum(1), gradient).clamp_min(tiny(gradient))
