"""The walk of Auto-PGD from a random start, by the norm of its ball.

linf, l2   steps that halve, with momentum                       l1   sparse steps, in three balls that shrink
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.gradient import Predict
from consilium.learn.perturbation.auto_step import maximise_with_auto_step
from consilium.learn.perturbation.ball import ConvexNorm
from consilium.learn.perturbation.balls import ball_of
from consilium.learn.perturbation.goals import Goal
from consilium.learn.perturbation.losses import AttackLoss
from consilium.learn.perturbation.sparse_auto_step import maximise_in_l1

__all__ = ["AutoWalk"]


@dataclass(frozen=True)
class AutoWalk:
    """``steps`` steps in the ball of ``radius`` by ``norm``, each gradient the mean of ``samples`` ones.

    ``predict`` is followed and ``until`` judges.
    """

    predict: Predict
    until: Predict
    norm: ConvexNorm
    radius: float
    steps: int
    samples: int

    def __call__(self, x: Tensor, y: Tensor, loss: AttackLoss, goal: Goal, generator: torch.Generator) -> Tensor:
        """The first point ``(n, *shape)`` of one start that reaches the goal, else that of largest loss."""
        if self.norm == "l1":
            noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
            return maximise_in_l1(
                self.predict, x, y, radius=self.radius, steps=self.steps, start=x + noise,
                loss=loss, goal=goal, until=self.until, samples=self.samples,
            )  # fmt: skip
        ball = ball_of(self.norm, self.radius)
        return maximise_with_auto_step(
            self.predict, x, y, ball=ball, steps=self.steps, start=ball.random_start(x, generator),
            loss=loss, goal=goal, until=self.until, samples=self.samples,
        )  # fmt: skip
