"""Inner maximisation: the worst input in a small ball around each example.

    x_0 = x (+ a random perturbation),   x_{t+1} = P(x_t + a * u(grad_x L(f(x_t), y)))

L is the loss towards the attack's goal, u the ball's steepest direction, P the projection onto the ball around x cut
with [0, 1].  One loop serves PGD the attack and adversarial training the defence.  Every example is treated on its own:
its result depends on it, the weights and its own noise alone, so per-example clipping still bounds it
(LAWS 5).

Source: Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks, arXiv 1706.06083.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.gradient import Predict

from .ball import Ball
from .goals import Goal
from .losses import AttackLoss

__all__ = ["Slope", "ascent", "maximise", "mean_logits", "slope"]


def maximise(
    predict: Predict,
    x: Tensor,
    y: Tensor,
    *,
    ball: Ball,
    steps: int,
    step_size: float,
    generator: torch.Generator,
    random_start: bool = True,
    loss: AttackLoss,
    goal: Goal,
    until: Predict | None = None,
    samples: int = 1,
) -> Tensor:
    """Inputs ``(n, *shape)`` in [0, 1], in the ``ball`` around ``x``, that raise the ``loss`` towards the ``goal``.

    ``y (n, ...)`` are the labels.  With ``until`` an example stops at
    the first point, x itself included, whose answer by that model reaches the goal (it need not be the model whose
    gradients are followed), and the rest go on; without it all steps are taken.  Each gradient, and each answer that
    is judged, is the mean of ``samples`` ones.  The weights' ``.grad`` is never touched.

    Raises Refused: ``predict`` is not differentiable in its input.
    """
    walk = _Walk(predict, until, ball, steps, step_size, loss, goal, samples)
    start = ball.random_start(x, generator) if random_start else x.clone()
    if until is None:
        return walk.to_the_end(start, x, y)
    # Without a random start the first point is x, and the loop below judges it.
    arrived = walk.arrived(x, y) if random_start else torch.zeros(len(x), dtype=torch.bool, device=x.device)
    return walk.until_reached(start, x, y, torch.nonzero(~arrived)[:, 0])


@dataclass(frozen=True)
class Slope:
    """At a point: the gradient ``(n, *shape)``, zero where it is not a number, the losses ``(n,)``, and the logits."""

    gradient: Tensor
    losses: Tensor
    logits: Tensor


def slope(predict: Predict, x: Tensor, y: Tensor, loss: AttackLoss, goal: Goal, samples: int = 1) -> Slope:
    """What a step at ``x`` goes by: the mean of ``samples`` passes forward and back, the weights' gradients aside.

    More than one are for a model that draws anew at each answer (expectation over transformation).

    Source: Athalye et al. 2018, Synthesizing Robust Adversarial Examples, arXiv 1707.07397 (section 2)

    Raises Refused: ``predict`` is not differentiable in its input.
    """
    if samples == 1:
        return _drawn_slope(predict, x, y, loss, goal)
    # Summed as they come: the draws are never held together.
    total = _drawn_slope(predict, x, y, loss, goal)
    for _ in range(samples - 1):
        one = _drawn_slope(predict, x, y, loss, goal)
        total = Slope(total.gradient + one.gradient, total.losses + one.losses, total.logits + one.logits)
    return Slope(total.gradient / samples, total.losses / samples, total.logits / samples)


def mean_logits(predict: Predict, x: Tensor, samples: int = 1) -> Tensor:
    """The mean of ``samples`` answers to ``x``, without gradients."""
    with torch.no_grad():
        total = predict(x)
        for _ in range(samples - 1):
            total = total + predict(x)
    return total if samples == 1 else total / samples


def _drawn_slope(predict: Predict, x: Tensor, y: Tensor, loss: AttackLoss, goal: Goal) -> Slope:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        logits = predict(leaf)
        if not logits.requires_grad:
            raise Refused(
                "the model answers without gradients, so a gradient attack cannot follow it",
                remedy="give a differentiable surrogate",
            )
        losses = goal.climbed(loss, logits, y)
        # The sum, not the mean: an example's gradient must not depend on how many others there are.
        (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return Slope(torch.nan_to_num(gradient), losses.detach(), logits.detach())


def ascent(
    predict: Predict, x: Tensor, y: Tensor, loss: AttackLoss, goal: Goal, samples: int = 1
) -> tuple[Tensor, Tensor]:
    """The gradient ``(n, *shape)`` at ``x`` that a step follows, and the logits there."""
    at = slope(predict, x, y, loss, goal, samples)
    return at.gradient, at.logits


@dataclass(frozen=True)
class _Walk:
    predict: Predict
    until: Predict | None
    ball: Ball
    steps: int
    step_size: float
    loss: AttackLoss
    goal: Goal
    samples: int

    def to_the_end(self, point: Tensor, x: Tensor, y: Tensor) -> Tensor:
        for _ in range(self.steps):
            point = self.stepped(point, self.ascent(point, y)[0], x)
        return point

    def until_reached(self, start: Tensor, x: Tensor, y: Tensor, alive: Tensor) -> Tensor:
        out, point, centre, labels = x.clone(), start[alive], x[alive], y[alive]
        for _ in range(self.steps):
            if not len(alive):
                break
            # One forward pass serves both: the gradient of this step and the verdict on the current point.
            gradient, logits = self.ascent(point, labels)
            same = self.until is self.predict
            arrived = self.goal.surely(logits, labels) if same else self.arrived(point, labels)
            if bool(arrived.any()):
                out[alive[arrived]] = point[arrived]
                rows = torch.nonzero(~arrived)[:, 0]
                alive, point, gradient, centre, labels = (
                    one.index_select(0, rows) for one in (alive, point, gradient, centre, labels)
                )
            point = self.stepped(point, gradient, centre)
        out[alive] = point
        return out

    def stepped(self, point: Tensor, gradient: Tensor, x: Tensor) -> Tensor:
        return self.ball.project(point + self.step_size * self.ball.steepest(gradient, point), x)

    def arrived(self, x: Tensor, y: Tensor) -> Tensor:
        return self.goal.surely(mean_logits(self.until or self.predict, x, self.samples), y)

    def ascent(self, point: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return ascent(self.predict, point, y, self.loss, self.goal, self.samples)
