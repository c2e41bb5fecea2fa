"""Inner maximisation whose steps shorten by themselves, with momentum and without a step size to choose (APGD).

    z_{t+1} = P(x_t + a u(grad L(x_t)))
    x_{t+1} = P(x_t + 3/4 (z_{t+1} - x_t) + 1/4 (x_t - x_{t-1}))

a starts at twice the radius and is halved at a checkpoint if the loss rose in no more than 3/4 of the steps since the
last one, or if neither a nor the best loss changed there; the walk then goes on from its best point.  Every example
has its own a and leaves once its goal is reached.

Source: Croce and Hein 2020, Reliable Evaluation of Adversarial Robustness, arXiv 2003.01690 (algorithm 1)
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self, TypeVar

import torch
from torch import Tensor

from consilium.core.gradient import Predict

from .ball import Ball, per_row
from .goals import Goal
from .losses import AttackLoss
from .maximise import Slope, mean_logits, slope

__all__ = ["Walk", "WalkState", "checkpoints", "maximise_with_auto_step"]

_RISING = 0.75
"""The share of steps that must raise the loss for the step size to stay."""
_INERTIA = 0.25
_Walked = TypeVar("_Walked", bound="WalkState")


def checkpoints(steps: int) -> tuple[int, ...]:
    """After which of ``steps`` steps the step size is checked: 22, 41, 57, ... of 100."""
    length, shorter, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    places, place = [], length
    while place <= steps:
        places.append(place)
        length = max(length - shorter, least)
        place += length
    return tuple(places)


def maximise_with_auto_step(
    predict: Predict,
    x: Tensor,
    y: Tensor,
    *,
    ball: Ball,
    steps: int,
    start: Tensor,
    loss: AttackLoss,
    goal: Goal,
    until: Predict,
    samples: int = 1,
) -> Tensor:
    """Inputs ``(n, *shape)`` in the ``ball`` around ``x``: the first of the walk from ``start`` that reaches the goal.

    ``y (n, ...)`` are the labels and ``until`` the model that judges; where no point reaches the goal, it is that of
    largest loss.  Each gradient, and each answer that is judged, is the mean of ``samples`` ones.  The weights'
    ``.grad`` is never touched.

    Raises Refused: ``predict`` is not differentiable in its input.
    """
    walk = _AutoStep(predict, until, loss, goal, samples, ball)
    out = start.clone()
    state = walk.drop(walk.begun(x, y, start), out)
    since, checks = 0, set(checkpoints(steps))
    for step in range(1, steps + 1):
        if not len(state.at):
            break
        state, since = walk.stepped(state, first=step == 1), since + 1
        state = walk.drop(state, out)
        if step in checks:
            state, since = _checked(state, since), 0
    out[state.at] = state.best
    return out


@dataclass(frozen=True)
class WalkState:
    """Of each example still walked, ``at`` its place in the batch; ``best`` is its point of largest loss."""

    at: Tensor
    x: Tensor
    y: Tensor
    point: Tensor
    gradient: Tensor
    logits: Tensor
    best: Tensor
    best_gradient: Tensor
    best_losses: Tensor

    def select(self, rows: Tensor) -> Self:
        """The examples of ``rows``."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def moved_to(self, point: Tensor, at: Slope) -> Self:
        """At ``point``, whose slope is ``at``, with the better of it and the best."""
        better = at.losses > self.best_losses
        rows = per_row(better, point)
        return replace(
            self, point=point, gradient=at.gradient, logits=at.logits,
            best=torch.where(rows, point, self.best),
            best_gradient=torch.where(rows, at.gradient, self.best_gradient),
            best_losses=torch.where(better, at.losses, self.best_losses),
        )  # fmt: skip

    def back_to_best(self, rows: Tensor) -> Self:
        """The examples of ``rows`` (n,) bool at their best points, the others where they are."""
        rows = per_row(rows, self.point)
        return replace(
            self,
            point=torch.where(rows, self.best, self.point),
            gradient=torch.where(rows, self.best_gradient, self.gradient),
        )


@dataclass(frozen=True)
class Walk:
    """Follows ``predict``; an example stops where its answer by ``until`` reaches the goal, and never without that."""

    predict: Predict
    until: Predict | None
    loss: AttackLoss
    goal: Goal
    samples: int

    def slope_at(self, point: Tensor, y: Tensor) -> Slope:
        """What the next step goes by."""
        return slope(self.predict, point, y, self.loss, self.goal, self.samples)

    def drop(self, state: _Walked, out: Tensor) -> _Walked:
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


@dataclass(frozen=True)
class _State(WalkState):
    """``rises`` counts since the last checkpoint."""

    previous: Tensor
    losses: Tensor
    checked_losses: Tensor
    halved: Tensor
    rises: Tensor
    size: Tensor


@dataclass(frozen=True)
class _AutoStep(Walk):
    ball: Ball

    def begun(self, x: Tensor, y: Tensor, start: Tensor) -> _State:
        at = self.slope_at(start, y)
        n, device = len(x), x.device
        return _State(
            at=torch.arange(n, device=device), x=x, y=y, point=start, previous=start,
            gradient=at.gradient, logits=at.logits,
            losses=torch.zeros_like(at.losses),  # as in the authors' code: the first step is compared with zero
            best=start, best_gradient=at.gradient, best_losses=at.losses, checked_losses=at.losses,
            halved=torch.ones(n, dtype=torch.bool, device=device), rises=torch.zeros(n, device=device),
            size=torch.full((n,), 2.0 * self.ball.radius, dtype=x.dtype, device=device),
        )  # fmt: skip

    def stepped(self, state: _State, *, first: bool) -> _State:
        point, x = state.point, state.x
        step = per_row(state.size, point) * self.ball.steepest(state.gradient, point)
        target = self.ball.project(point + step, x)
        if not first:
            target = self.ball.project(
                point + (target - point) * (1 - _INERTIA) + (point - state.previous) * _INERTIA, x
            )
        at = self.slope_at(target, state.y)
        rises = state.rises + (at.losses > state.losses)
        return replace(state.moved_to(target, at), previous=point, losses=at.losses, rises=rises)


def _checked(state: _State, since: int) -> _State:
    """After ``since`` steps: shorter steps from the best point where the loss rose too seldom."""
    stale = ~state.halved & (state.checked_losses >= state.best_losses)
    halve = (state.rises <= _RISING * since) | stale
    return replace(
        state.back_to_best(halve),
        size=torch.where(halve, state.size / 2, state.size),
        halved=halve,
        checked_losses=state.best_losses,
        rises=torch.zeros_like(state.rises),
    )
