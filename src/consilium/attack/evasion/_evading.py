"""A walk towards an input that is answered wrongly and looks ordinary to a detector.

    not fooled yet   u = grad L                                     up the attack's loss
    fooled           u = -(s - <s, g> g),  s, g: directions of      down the suspicion, at no cost to the loss to first
                     grad suspicion and grad L                      order (orthogonal)

Of all points that fool the released model the one that its detector suspects least is kept.

Source: Bryniarski et al. 2021, Evading Adversarial Example Detection Defenses with Orthogonal Projected Gradient
Descent, arXiv 2106.15023
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from consilium.core.detection import Detecting
from consilium.learn.perturbation.ball import Ball, per_row, tiny
from consilium.learn.perturbation.goals import Goal
from consilium.learn.perturbation.losses import AttackLoss

__all__ = ["Kept", "Sight", "least_suspected"]


@dataclass(frozen=True)
class Sight:
    """What the attacker follows, and what judges it: stand-in and released model, each with its detector."""

    followed: nn.Module
    suspected: Detecting
    module: nn.Module
    detecting: Detecting

    def follow(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and suspicion by the stand-in, with gradients."""
        return _both(self.followed, self.suspected, x)

    def judge(self, x: Tensor, y: Tensor, goal: Goal) -> tuple[Tensor, Tensor]:
        """Where the released model is fooled, and the suspicion of its detector."""
        with torch.no_grad():
            logits, suspicion = _both(self.module, self.detecting, x)
            return goal.reached(logits, y), suspicion


@dataclass(frozen=True)
class Kept:
    """The best point so far ``(n, *shape)``, which of them fool ``(n,)``, and their suspicion ``(n,)``."""

    point: Tensor
    fooled: Tensor
    suspicion: Tensor

    def better(self, point: Tensor, fooled: Tensor, suspicion: Tensor) -> Kept:
        """The points of both that fool, and of two that fool, or of two that do not, the less suspected one."""
        less = (fooled & ~self.fooled) | ((fooled == self.fooled) & (suspicion < self.suspicion))
        return Kept(
            torch.where(per_row(less, point), point, self.point),
            self.fooled | fooled,
            torch.where(less, suspicion, self.suspicion),
        )


def least_suspected(
    sight: Sight,
    x: Tensor,
    y: Tensor,
    best: Kept,
    start: Tensor,
    *,
    ball: Ball,
    steps: int,
    loss: AttackLoss,
    goal: Goal,
) -> Kept:
    """``best`` and what ``steps`` steps from ``start`` find, in the ``ball`` around ``x``."""
    point = start
    for step in range(steps + 1):
        fooled, suspicion = sight.judge(point, y, goal)
        best = best.better(point, fooled, suspicion)
        if step == steps:
            break
        up, suspect = _slopes(sight, point, y, loss, goal)
        direction = torch.where(per_row(fooled, x), -_without(suspect, up), up)
        size = ball.radius * (1 - step / steps)
        point = ball.project(point + size * ball.steepest(direction, point), x)
    return best


def _slopes(sight: Sight, point: Tensor, y: Tensor, loss: AttackLoss, goal: Goal) -> tuple[Tensor, Tensor]:
    """Gradients ``(n, *shape)`` of the loss and of the suspicion."""
    with torch.enable_grad():
        leaf = point.detach().requires_grad_(True)
        logits, suspicion = sight.follow(leaf)
        (up,) = torch.autograd.grad(goal.climbed(loss, logits, y).sum(), leaf, retain_graph=True)
        if not suspicion.requires_grad:
            return up.nan_to_num(), torch.zeros_like(up)
        (slope,) = torch.autograd.grad(suspicion.sum(), leaf)
    return up.nan_to_num(), slope.nan_to_num()


def _both(module: nn.Module, detecting: Detecting, x: Tensor) -> tuple[Tensor, Tensor]:
    if module is detecting:
        return detecting.answered(x)
    return module(x), detecting.suspicion(x)


def _without(one: Tensor, other: Tensor) -> Tensor:
    """``one (n, *shape)`` without its part along ``other``."""
    a, b = _unit(one), _unit(other)
    return a - per_row((a * b).flatten(1).sum(1), a) * b


def _unit(direction: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(direction.flatten(1), dim=1).clamp_min(tiny(direction))
    return direction / per_row(length, direction)
