"""Carlini and Wagner by the Euclidean length: Adam on a variable without bounds, and a binary search for the constant.

    minimise |p - x|_2^2 + c max(0, k - gap(p)),   p = (tanh(w) + 1) / 2

A constant that fools is halved towards the largest that does not, one that does not is multiplied by ten.  A record
whose objective has not fallen for ``patience`` steps leaves the search for this constant, by itself.

Source: Carlini and Wagner 2017, Towards Evaluating the Robustness of Neural Networks, arXiv 1608.04644 (section VI.A)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.learn.rounding import rounding

from .adam import Adam
from .boundary import Boundary
from .closest import Closest

__all__ = ["CarliniWagnerL2", "pushed", "unbounded"]

_EDGE = 1e-3
"""At 0 and 1 tanh is flat: from 1e-6, as usual, many steps pass before a black pixel moves."""
_FALL = 1e-4
"""An objective has fallen if it has by this share."""


def unbounded(x: Tensor) -> Tensor:
    """w with (tanh(w) + 1) / 2 = x, kept from the infinity of 0 and 1."""
    return ((2 * x - 1) * (1 - _EDGE)).atanh()


def pushed(boundary: Boundary, logits: Tensor, y: Tensor) -> Tensor:
    """max(0, k - gap) ``(n,)``, with k just beyond what rounding may turn round."""
    return (2 * rounding(logits) - boundary.goal.climbed(boundary.loss, logits, y)).clamp_min(0)


@dataclass(frozen=True)
class CarliniWagnerL2:
    """``searches`` constants from ``constant`` on, each with at most ``steps`` of Adam at ``rate``."""

    boundary: Boundary
    searches: int
    steps: int
    rate: float
    constant: float
    patience: int

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The nearest points ``(n, *shape)`` that reach the goal; x without one."""
        closest, changes = Closest.of(x), torch.zeros_like(x)
        constants = torch.full((len(x),), self.constant, dtype=x.dtype, device=x.device)
        low, high = torch.zeros_like(constants), torch.full_like(constants, math.inf)
        for _ in range(self.searches):
            success = self._descend(x, y, constants, changes, closest)
            changes[success] = (unbounded(closest.points) - unbounded(x))[success]
            high = torch.where(success, torch.minimum(high, constants), high)
            low = torch.where(success, low, torch.maximum(low, constants))
            constants = torch.where(high.isfinite(), (low + high) / 2, 10 * constants)
        return closest.points

    def _descend(self, x: Tensor, y: Tensor, constants: Tensor, changes: Tensor, closest: Closest) -> Tensor:
        """Which records reach the goal with these ``constants (n,)``; ``changes`` of w are carried on."""
        success = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        rows, origin, start, labels = torch.arange(len(x), device=x.device), x, unbounded(x), y
        change, adam = changes.clone(), Adam.of(x, self.rate)
        lowest, idle = torch.full_like(constants, math.inf), torch.zeros(len(x), dtype=torch.long, device=x.device)
        for _ in range(self.steps):
            points, squares, objective, reached, gradient = self._slope(origin, start, change, labels, constants[rows])
            closest.offer(rows, points, squares.sqrt(), reached)
            success[rows] |= reached
            idle = torch.where(objective < lowest * (1 - _FALL), 0, idle + 1)
            lowest = torch.minimum(lowest, objective)
            change = change - adam.step(gradient)
            changes[rows] = change
            going = idle < self.patience
            if not going.all():
                rows, origin, start, labels, change = (t[going] for t in (rows, origin, start, labels, change))
                lowest, idle, adam = lowest[going], idle[going], adam.of_rows(going)
                if not len(rows):
                    break
        return success

    def _slope(
        self, origin: Tensor, start: Tensor, change: Tensor, y: Tensor, constants: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The points, their squared distances, the objective, where the goal is reached, and the gradient."""
        leaf = change.detach().requires_grad_(True)
        with torch.enable_grad():
            points = (torch.tanh(start + leaf) + 1) / 2
            logits = self.boundary.predict(points)
            squares = (points - origin).flatten(1).square().sum(1)
            objective = squares + constants * pushed(self.boundary, logits, y)
            (gradient,) = torch.autograd.grad(objective.sum(), leaf)
        points = points.detach()
        reached = self.boundary.verdict(points, y, logits)
        return points, squares.detach(), objective.detach(), reached, gradient.nan_to_num()
