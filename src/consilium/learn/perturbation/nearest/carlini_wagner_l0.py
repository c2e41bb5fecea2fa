"""Carlini and Wagner by the number of features: an attack by the Euclidean length, on fewer and fewer of them.

After each success the features of least |gradient of the gap x change| go back to the record's values, a share of
those in use; after a failure, with those of the last success, half as many do.  A record ends when not even one can.
Changes are cut to [0, 1] and not bent by tanh, under which no feature would keep its value exactly.

Source: Carlini and Wagner 2017, arXiv 1608.04644 (section VI.B)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.learn.perturbation.balls import size_of

from .adam import Adam
from .boundary import Boundary
from .carlini_wagner_l2 import pushed
from .closest import Closest

__all__ = ["CarliniWagnerL0"]

_SHARE = 0.3


@dataclass(frozen=True)
class CarliniWagnerL0:
    """At most ``steps`` of Adam at ``rate`` for each set of features, with one ``constant``."""

    boundary: Boundary
    steps: int
    rate: float
    constant: float

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The points ``(n, *shape)`` that reach the goal with the fewest changes; x without one."""
        closest, free = Closest.of(x), torch.ones_like(x, dtype=torch.bool)
        dropped = torch.zeros(len(x), dtype=torch.long, device=x.device)
        order = torch.zeros_like(free.flatten(1), dtype=torch.long)
        alive = torch.arange(len(x), device=x.device)
        while len(alive):
            success = self._descend(x, y, alive, self._without(free, order, dropped, alive), closest)
            winners, losers = alive[success], alive[~success]
            self._succeeded(x, y, winners, closest, free, order, dropped)
            dropped[losers] //= 2
            alive = alive[dropped[alive] > 0]
        return closest.points

    def _without(self, free: Tensor, order: Tensor, dropped: Tensor, rows: Tensor) -> Tensor:
        """``free[rows]`` less the ``dropped`` first features of their ``order``."""
        ranks = torch.arange(order.shape[1], device=order.device).expand(len(rows), -1)
        least = torch.zeros_like(ranks, dtype=torch.bool).scatter(1, order[rows], ranks < dropped[rows][:, None])
        return free[rows] & ~least.view_as(free[rows])

    def _succeeded(
        self, x: Tensor, y: Tensor, rows: Tensor, closest: Closest, free: Tensor, order: Tensor, dropped: Tensor
    ) -> None:
        """Take up what changed, and how little each change matters, for the next set of features."""
        if not len(rows):
            return
        change = closest.points[rows] - x[rows]
        gradient, _, _ = self.boundary.slope(closest.points[rows], y[rows])
        free[rows] = change != 0
        weight = (gradient * change).abs().masked_fill(change == 0, float("inf"))
        order[rows] = weight.flatten(1).argsort(dim=1)
        count = free[rows].flatten(1).sum(1)
        first = (count * _SHARE).long().clamp_min(1)
        dropped[rows] = torch.where(count > 1, torch.minimum(first, count - 1), 0)

    def _descend(self, x: Tensor, y: Tensor, rows: Tensor, free: Tensor, closest: Closest) -> Tensor:
        """Which of ``rows`` reach the goal by changes of ``free (k, *shape)`` alone."""
        success = torch.zeros(len(rows), dtype=torch.bool, device=x.device)
        places = torch.arange(len(rows), device=x.device)
        change, adam = torch.zeros_like(x[rows]), Adam.of(x[rows], self.rate)
        for _ in range(self.steps):
            now = rows[places]
            leaf = change.detach().requires_grad_(True)
            with torch.enable_grad():
                points = x[now] + leaf
                logits = self.boundary.predict(points)
                square = leaf.flatten(1).square().sum(1)
                objective = square + self.constant * pushed(self.boundary, logits, y[now])
                (gradient,) = torch.autograd.grad(objective.sum(), leaf)
            points = points.detach().clamp(0, 1)  # x + (p - x) may be beyond by rounding
            reached = self.boundary.verdict(points, y[now], logits)
            closest.offer(now, points, size_of(points - x[now], "l0"), reached)
            success[places[reached]] = True
            places, change, adam = places[~reached], change[~reached], adam.of_rows(~reached)
            if not len(places):
                break
            moved = change - adam.step(gradient[~reached].nan_to_num()) * free[places]
            change = (x[rows[places]] + moved).clamp(0, 1) - x[rows[places]]
        return success
