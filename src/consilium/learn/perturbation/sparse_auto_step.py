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

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from consilium.core.gradient import Predict

from .ball import per_row
from .goals import Goal
from .l1_box import L1Box, sparse_signs
from .losses import AttackLoss
from .maximise import mean_logits, slope

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
        walk = _Sparse(predict, until if factor == 1 else None, ball, loss, goal, samples)
        point = walk.walked(ball.project(point, x), x, y, count)
    return point


@dataclass(frozen=True)
class _State:
    """Of each example still walked, ``at`` its place in the batch; ``moved`` of its features were at the last check."""

    at: Tensor
    x: Tensor
    y: Tensor
    point: Tensor
    gradient: Tensor
    logits: Tensor
    best: Tensor
    best_gradient: Tensor
    best_losses: Tensor
    size: Tensor
    features: Tensor
    moved: Tensor

    def select(self, rows: Tensor) -> _State:
        """The examples of ``rows``."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class _Sparse:
    predict: Predict
    until: Predict | None
    ball: L1Box
    loss: AttackLoss
    goal: Goal
    samples: int

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
        at = slope(self.predict, start, y, self.loss, self.goal, self.samples)
        moved, d = _moved(start, x), x.shape[1:].numel()
        widest = self.ball.radius * torch.ones(len(x), dtype=x.dtype, device=x.device)
        return _State(
            at=torch.arange(len(x), device=x.device), x=x, y=y, point=start, gradient=at.gradient, logits=at.logits,
            best=start, best_gradient=at.gradient, best_losses=at.losses,
            size=widest, features=_fewer(moved, d), moved=moved,
        )  # fmt: skip

    def drop(self, state: _State, out: Tensor) -> _State:
        """Without the examples whose point reaches the goal, which is written into ``out``."""
        if self.until is None:
            return state
        logits = state.logits
        if self.until is not self.predict:
            logits = mean_logits(self.until, state.point, self.samples)
        reached = self.goal.surely(logits, state.y)
        if not reached.any():
            return state
        out[state.at[reached]] = state.point[reached]
        return state.select(~reached)

    def stepped(self, state: _State) -> _State:
        step = per_row(state.size, state.point) * sparse_signs(state.gradient, state.features)
        point = self.ball.project(state.point + step, state.x)
        at = slope(self.predict, point, state.y, self.loss, self.goal, self.samples)
        better = at.losses > state.best_losses
        rows = per_row(better, point)
        return replace(
            state, point=point, gradient=at.gradient, logits=at.logits,
            best=torch.where(rows, point, state.best),
            best_gradient=torch.where(rows, at.gradient, state.best_gradient),
            best_losses=torch.where(better, at.losses, state.best_losses),
        )  # fmt: skip

    def checked(self, state: _State) -> _State:
        """Fewer features where the best point moves fewer; else shorter steps."""
        moved = _moved(state.best, state.x)
        sparser = moved < _SPARSER * state.moved
        radius, rows = self.ball.radius, per_row(sparser, state.point)
        return replace(
            state,
            size=torch.where(sparser, radius, (state.size / _SHORTER).clamp_min(radius / _SHORTEST)),
            features=_fewer(moved, state.x.shape[1:].numel()),
            moved=moved,
            point=torch.where(rows, state.best, state.point),
            gradient=torch.where(rows, state.best_gradient, state.gradient),
        )


def _moved(point: Tensor, x: Tensor) -> Tensor:
    """How many features differ ``(n,)``."""
    return (point != x).flatten(1).sum(1)


def _fewer(moved: Tensor, d: int) -> Tensor:
    """Features of the next steps: two thirds of those ``moved (n,)``, at least one of the ``d``."""
    return (moved / _KEPT_SHARE).ceil().long().clamp(1, d)
