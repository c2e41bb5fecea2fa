"""Carlini and Wagner by the largest change: only what exceeds a threshold costs, and the threshold falls.

    minimise sum_j max(0, |p_j - x_j| - t) + c max(0, k - gap(p)),   p = (tanh(w) + 1) / 2

Where all changes come to lie below t at a point that reaches the goal, t <- 0.9 of the largest change; where they do
not, c <- 2 c.  A record ends when c is at its largest or t below one grey level; w goes on from where it was.

Source: Carlini and Wagner 2017, arXiv 1608.04644 (section VI.C)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.learn.perturbation.ball import per_row
from consilium.learn.perturbation.balls import size_of

from .adam import Adam
from .boundary import Boundary
from .carlini_wagner_l2 import pushed, unbounded
from .closest import Closest

__all__ = ["CarliniWagnerLinf"]

_FALL, _RISE, _LEAST = 0.9, 2.0, 1 / 256


@dataclass(frozen=True)
class CarliniWagnerLinf:
    """At most ``steps`` of Adam at ``rate`` for each threshold and constant, from ``constant`` to ``largest``."""

    boundary: Boundary
    steps: int
    rate: float
    constant: float
    largest: float

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The nearest points ``(n, *shape)`` that reach the goal; x without one."""
        closest, change = Closest.of(x), torch.zeros_like(x)
        constants = torch.full((len(x),), self.constant, dtype=x.dtype, device=x.device)
        limits = torch.ones_like(constants)
        while len(rows := torch.nonzero((limits > _LEAST) & (constants < self.largest))[:, 0]):
            success = self._descend(x, y, rows, change, constants[rows], limits[rows], closest)
            below = _FALL * torch.minimum(limits[rows], closest.distances[rows])
            limits[rows] = torch.where(success, below, limits[rows])
            constants[rows] = torch.where(success, constants[rows], _RISE * constants[rows])
        return closest.points

    def _descend(
        self, x: Tensor, y: Tensor, rows: Tensor, change: Tensor, constants: Tensor, limits: Tensor, closest: Closest
    ) -> Tensor:
        """Which of ``rows`` reach the goal below their limits; ``change`` is carried on."""
        success = torch.zeros(len(rows), dtype=torch.bool, device=x.device)
        places, start, adam = torch.arange(len(rows), device=x.device), unbounded(x[rows]), Adam.of(x[rows], self.rate)
        for _ in range(self.steps):
            now = rows[places]
            leaf = change[now].requires_grad_(True)
            with torch.enable_grad():
                points = (torch.tanh(start + leaf) + 1) / 2
                logits = self.boundary.predict(points)
                excess = ((points - x[now]).abs() - per_row(limits[places], points)).clamp_min(0).flatten(1).sum(1)
                objective = excess + constants[places] * pushed(self.boundary, logits, y[now])
                (gradient,) = torch.autograd.grad(objective.sum(), leaf)
            points = points.detach()
            size, reached = size_of(points - x[now], "linf"), self.boundary.verdict(points, y[now], logits)
            closest.offer(now, points, size, reached)
            arrived = reached & (size <= limits[places])
            success[places[arrived]] = True
            change[now] -= adam.step(gradient.nan_to_num())
            if arrived.any():
                places, start, adam = places[~arrived], start[~arrived], adam.of_rows(~arrived)
                if not len(places):
                    break
        return success
