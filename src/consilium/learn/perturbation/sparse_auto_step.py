"""Auto-PGD in the ball of the sum of all changes: sparse steps, whose length and number of features adapt themselves.

    x_{t+1} = P(x_t + a s / |s|_1)       s: signs of the k features of largest derivative, P: onto ball and [0, 1]

Every 4 % of the steps k becomes two thirds of the features that the best point has changed.  Where these fell by more
than 5 %, the walk goes on from the best point with a = radius; else a is divided by 1.5, down to a tenth of the radius.
The first 30 % of the steps are taken in the ball of three times the radius, the next 30 % in that of twice the radius:
each ball begins at the best point of the larger one.  There is no momentum.

Source: Croce and Hein 2021, Mind the Box: l1-APGD for Sparse Adversarial Attacks on Image Classifiers, arXiv 2103.01208
(algorithm 1 and section 3.2)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from consilium.core.gradient import Predict

from .auto_step import Walk, WalkState
from .ball import per_row
from .goals import Goal
from .l1_box import L1Box, sparse_signs
from .losses import AttackLoss

__all__ = ["maximise_in_l1"]

_KEPT_SHARE = 1.5
_SPARSER, _SHORTER, _SHORTEST = 0.95, 1.5, 10.0
_CHECKED_EVERY = 0.04
_BALLS = ((3, 0.3), (2, 0.3), (1, 0.4))
"""Factors on the radius, and shares of the steps that are taken there."""


def maximise_in_l1(
    predict: Predict,
    x: Tensor,
    y: Tensor,
    *,
    radius: float,
    steps: int,
    start: Tensor,
    loss: AttackLoss,
    goal: Goal,
    until: Predict,
    samples: int = 1,
) -> Tensor:
    """Inputs ``(n, *shape)`` in [0, 1] whose changes from ``x`` sum to ``radius`` at most.

    ``start`` may be anywhere: it is moved into the first ball.  The first point of the walk in the last ball that
    reaches the goal by the model ``until``; else that of largest loss.  Each gradient, and each answer that is judged,
    is the mean of ``samples`` ones.  The weights' ``.grad`` is never touched.

    Raises Refused: ``predict`` is not differentiable in its input.
    """
    point = start
    early = [int(share * steps) for _, share in _BALLS[:-1]]
    counts = (*early, steps - sum(early))
    for (factor, _), count in zip(_BALLS, counts, strict=True):
        ball = L1Box(factor * radius)
        walk = _Sparse(predict, until if factor == 1 else None, loss, goal, samples, ball)
        point = walk.walked(ball.project(point, x), x, y, count)
    return point


@dataclass(frozen=True)
class _State(WalkState):
    """``moved`` of its features were at the last check."""

    size: Tensor
    features: Tensor
    moved: Tensor


@dataclass(frozen=True)
class _Sparse(Walk):
    ball: L1Box

    def walked(self, start: Tensor, x: Tensor, y: Tensor, steps: int) -> Tensor:
        """``steps`` steps from ``start``; an example whose point reaches the goal of ``until`` stops there."""
        out, every = start.clone(), max(1, int(_CHECKED_EVERY * steps))
        state = self.drop(self.begun(start, x, y), out)
        for step in range(1, steps + 1):
            if not len(state.at):
                return out
            state = self.drop(self.stepped(state), out)
            if step % every == 0:
                state = self.checked(state)
        out[state.at] = state.best
        return out

    def begun(self, start: Tensor, x: Tensor, y: Tensor) -> _State:
        at = self.slope_at(start, y)
        moved, d = _moved(start, x), x.shape[1:].numel()
        widest = self.ball.radius * torch.ones(len(x), dtype=x.dtype, device=x.device)
        return _State(
            at=torch.arange(len(x), device=x.device), x=x, y=y, point=start, gradient=at.gradient, logits=at.logits,
            best=start, best_gradient=at.gradient, best_losses=at.losses,
            size=widest, features=_fewer(moved, d), moved=moved,
        )  # fmt: skip

    def stepped(self, state: _State) -> _State:
        step = per_row(state.size, state.point) * sparse_signs(state.gradient, state.features)
        point = self.ball.project(state.point + step, state.x)
        return state.moved_to(point, self.slope_at(point, state.y))

    def checked(self, state: _State) -> _State:
        """Fewer features where the best point moves fewer; else shorter steps."""
        moved = _moved(state.best, state.x)
        sparser = moved < _SPARSER * state.moved
        radius = self.ball.radius
        return replace(
            state.back_to_best(sparser),
            size=torch.where(sparser, radius, (state.size / _SHORTER).clamp_min(radius / _SHORTEST)),
            features=_fewer(moved, state.x.shape[1:].numel()),
            moved=moved,
        )


def _moved(point: Tensor, x: Tensor) -> Tensor:
    """How many features differ ``(n,)``."""
    return (point != x).flatten(1).sum(1)


def _fewer(moved: Tensor, d: int) -> Tensor:
    """Features of the next steps: two thirds of those ``moved (n,)``, at least one of the ``d``."""
    return (moved / _KEPT_SHARE).ceil().long().clamp(1, d)
