"""Where the answer of a model reaches the goal of an attack: what is followed, what judges, and how far to go.

    gap(z)  signed, above 0 exactly where the goal is reached:   misclassification    max_{j != y} z_j - z_y
                                                                 a target t           z_t - max_{j != t} z_j
            p_y below c      log sum_{j != y} exp(z_j) - z_y - log((1 - c) / c)
            another task     its margin

Source: Carlini and Wagner 2017, arXiv 1608.04644 (f6)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.gradient import Predict
from consilium.core.task import Task
from consilium.learn.perturbation.goals import ConfidenceReduction, Goal
from consilium.learn.perturbation.losses import AttackLoss
from consilium.learn.perturbation.maximise import ascent
from consilium.learn.perturbation.task_loss import attack_loss

__all__ = ["Boundary", "LogOdds", "gap_loss"]


@dataclass(frozen=True)
class LogOdds(AttackLoss):
    """The log-odds of a wrong answer over those at which the right class has the probability ``confidence``."""

    confidence: float

    def untargeted(self, logits: Tensor, y: Tensor) -> Tensor:
        """Above 0 exactly where p_y is below the confidence."""
        other = logits.scatter(1, y[:, None], -math.inf).logsumexp(1)
        least = math.log1p(-self.confidence) - math.log(self.confidence) if self.confidence < 1 else -math.inf
        return other - logits.gather(1, y[:, None])[:, 0] - least

    def targeted(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """Raises Refused: a lower confidence in the right class has no target."""
        raise Refused("a lower confidence in the right class has no target", remedy="use the margin")


def gap_loss(goal: Goal, task: Task) -> AttackLoss:
    """The loss that is above 0 exactly where ``goal`` is reached."""
    return LogOdds(goal.confidence) if isinstance(goal, ConfidenceReduction) else attack_loss("margin", task)


@dataclass(frozen=True)
class Boundary:
    """A model ``predict`` to follow by the gradient of ``loss``, and one, ``judge``, whose answers have to reach it."""

    predict: Predict
    judge: Predict
    goal: Goal
    loss: AttackLoss

    def answers(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """``points`` as a leaf of a graph, and the logits of the followed model there.

        Raises Refused: the model is not differentiable in its input.
        """
        with torch.enable_grad():
            leaf = points.detach().requires_grad_(True)
            logits = self.predict(leaf)
        if not logits.requires_grad:
            raise Refused(
                "the model answers without gradients, so a gradient attack cannot follow it",
                remedy="give a differentiable surrogate",
            )
        return leaf, logits

    def slope(self, points: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient ``(n, *shape)`` and value ``(n,)`` of the loss at ``points``, and where they surely reach the goal.

        Raises Refused: the model is not differentiable in its input.
        """
        gradient, logits = ascent(self.predict, points, y, self.loss, self.goal)
        return gradient, self.goal.climbed(self.loss, logits, y), self.verdict(points, y, logits)

    def reached(self, points: Tensor, y: Tensor) -> Tensor:
        """Where ``points`` reach the goal by a lead that floating point cannot turn round, bool ``(n,)``."""
        with torch.no_grad():
            return self.goal.surely(self.judge(points), y)

    def crossed(self, points: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where ``points`` reach the goal at all, and where surely, bool ``(n,)`` each."""
        with torch.no_grad():
            logits = self.judge(points)
            return self.goal.reached(logits, y), self.goal.surely(logits, y)

    def verdict(self, points: Tensor, y: Tensor, logits: Tensor) -> Tensor:
        """The same where the followed model's ``logits`` at ``points`` are at hand: one forward pass serves both."""
        return self.goal.surely(logits.detach(), y) if self.judge is self.predict else self.reached(points, y)
