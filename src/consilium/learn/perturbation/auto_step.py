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

import torch
from torch import Tensor

from consilium.core.gradient import Predict

from .ball import Ball, per_row
from .goals import Goal
from .losses import AttackLoss
from .maximise import mean_logits, slope

__all__ = ["checkpoints", "maximise_with_auto_step"]

_RISING = 0.75
"""The share of steps that must raise the loss for the step size to stay."""
_INERTIA = 0.25


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
    walk = _AutoStep(predict, until, ball, loss, goal, samples)
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
class _State:
    """Of each example still walked, ``at`` its place in the batch; ``rises`` counts since the last checkpoint."""

    at: Tensor
    x: Tensor
    y: Tensor
    point: Tensor
    previous: Tensor
    gradient: Tensor
    logits: Tensor
    losses: Tensor
    best: Tensor
    best_gradient: Tensor
    best_losses: Tensor
    checked_losses: Tensor
    halved: Tensor
    rises: Tensor
    size: Tensor

    def select(self, rows: Tensor) -> _State:
        """The examples of ``rows``."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class _AutoStep:
    predict: Predict
    until: Predict
    ball: Ball
    loss: AttackLoss
    goal: Goal
    samples: int

    def begun(self, x: Tensor, y: Tensor, start: Tensor) -> _State:
        at = slope(self.predict, start, y, self.loss, self.goal, self.samples)
        n, device = len(x), x.device
        return _State(
            at=torch.arange(n, device=device), x=x, y=y, point=start, previous=start,
            gradient=at.gradient, logits=at.logits,
            losses=torch.zeros_like(at.losses),  # as in the authors' code: the first step is compared with zero
            best=start, best_gradient=at.gradient, best_losses=at.losses, checked_losses=at.losses,
            halved=torch.ones(n, dtype=torch.bool, device=device), rises=torch.zeros(n, device=device),
            size=torch.full((n,), 2.0 * self.ball.radius, dtype=x.dtype, device=device),
        )  # fmt: skip

    def drop(self, state: _State, out: Tensor) -> _State:
        """Without the examples whose point reaches the goal, which is written into ``out``."""
        reached = self.reached(state)
        if not reached.any():
            return state
        out[state.at[reached]] = state.point[reached]
        return state.select(~reached)

    def reached(self, state: _State) -> Tensor:
        if self.until is self.predict:
            return self.goal.surely(state.logits, state.y)
        return self.goal.surely(mean_logits(self.until, state.point, self.samples), state.y)

    def stepped(self, state: _State, *, first: bool) -> _State:
        point, x = state.point, state.x
        step = per_row(state.size, point) * self.ball.steepest(state.gradient, point)
        target = self.ball.project(point + step, x)
        if not first:
            target = self.ball.project(
                point + (target - point) * (1 - _INERTIA) + (point - state.previous) * _INERTIA, x
            )
        at = slope(self.predict, target, state.y, self.loss, self.goal, self.samples)
        better = at.losses > state.best_losses
        rows = per_row(better, point)
        return replace(
            state, point=target, previous=point, gradient=at.gradient, logits=at.logits, losses=at.losses,
            rises=state.rises + (at.losses > state.losses),
            best=torch.where(rows, target, state.best),
            best_gradient=torch.where(rows, at.gradient, state.best_gradient),
            best_losses=torch.where(better, at.losses, state.best_losses),
        )  # fmt: skip


def _checked(state: _State, since: int) -> _State:
    """After ``since`` steps: shorter steps from the best point where the loss rose too seldom."""
    stale = ~state.halved & (state.checked_losses >= state.best_losses)
    halve = (state.rises <= _RISING * since) | stale
    rows = per_row(halve, state.point)
    return replace(
        state,
        size=torch.where(halve, state.size / 2, state.size),
        point=torch.where(rows, state.best, state.point),
        gradient=torch.where(rows, state.best_gradient, state.gradient),
        halved=halve,
        checked_losses=state.best_losses,
        rises=torch.zeros_like(state.rises),
    )
