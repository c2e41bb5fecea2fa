"""Fast adaptive boundary, targeted: projections onto the plane where a target's logit meets that of the right class.

    d1, d2 = nearest points of the plane in the box, from the current point and from the record
    x <- (1 - a) (x + eta d1) + a (record + eta d2),    a = min(|d1| / (|d1| + |d2|), a_max)
    where the goal is reached: a candidate, and x <- record + beta (x - record)

The targets are the wrong classes of largest logit at the record, one after the other.

Source: Croce and Hein 2020, Minimally distorted adversarial examples with a fast adaptive boundary attack,
arXiv 1907.02044; the targeted version: Croce and Hein 2020, arXiv 2003.01690
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.learn.perturbation.ball import AnyNorm, per_row
from consilium.learn.perturbation.balls import size_of
from consilium.learn.perturbation.goals import Targeted

from .boundary import Boundary
from .closest import Closest
from .plane import to_plane

__all__ = ["FastBoundary"]

_MOST_BACK = 0.1
_OVERSHOOT = 1.05
_BACKWARD = 0.9
"""alpha_max, eta and beta of the paper."""


@dataclass(frozen=True)
class FastBoundary:
    """``steps`` towards each of ``targets`` classes; a record within ``enough`` of the boundary is left alone."""

    boundary: Boundary
    norm: AnyNorm
    steps: int
    targets: int
    enough: float = -math.inf

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The nearest points ``(n, *shape)`` that reach the goal; x without one."""
        closest, ranks = Closest.of(x), self._ranks(x, y)
        for targets in ranks.unbind(1):
            rows = torch.nonzero(closest.distances > self.enough)[:, 0]
            if len(rows):
                self._towards(targets[rows], x, y, rows, closest)
        return closest.points

    def _ranks(self, x: Tensor, y: Tensor) -> Tensor:
        """The classes to aim at ``(n, k)``, that of the largest logit first; the goal's own where it has one."""
        if isinstance(self.boundary.goal, Targeted):
            return torch.full_like(y, self.boundary.goal.target)[:, None]
        with torch.no_grad():
            logits = self.boundary.predict(x).scatter(1, y[:, None], -math.inf)
        return logits.argsort(dim=1, descending=True)[:, : min(self.targets, logits.shape[1] - 1)]

    def _towards(self, targets: Tensor, x: Tensor, y: Tensor, rows: Tensor, closest: Closest) -> None:
        point = x[rows]
        for _ in range(self.steps):
            record, labels = x[rows], y[rows]
            point = self._step(point, record, labels, targets)
            # The walk turns back at the boundary itself: a lead beyond rounding would make it end farther away.
            reached, surely = self.boundary.crossed(point, labels)
            closest.offer(rows, point, size_of(point - record, self.norm), surely)
            back = record + _BACKWARD * (point - record)
            point = torch.where(per_row(reached, point), back, point)
            if math.isfinite(self.enough):
                left = closest.distances[rows] > self.enough
                rows, point, targets = rows[left], point[left], targets[left]
                if not len(rows):
                    return

    def _step(self, point: Tensor, record: Tensor, y: Tensor, targets: Tensor) -> Tensor:
        leaf, logits = self.boundary.answers(point)
        with torch.enable_grad():
            right, aim = logits.gather(1, torch.stack([y, targets], 1)).unbind(1)
            gaps = aim - right
            (gradient,) = torch.autograd.grad(gaps.sum(), leaf)
        normals, here, start = gradient.nan_to_num().flatten(1), point.flatten(1), record.flatten(1)
        rises = -gaps.detach()
        both = to_plane(
            torch.cat([here, start]),
            torch.cat([normals, normals]),
            torch.cat([rises, rises + (normals * (here - start)).sum(1)]),
            self.norm,
        )
        forward, anew = both.view(2, *point.shape).unbind(0)
        near, far = (size_of(d, self.norm).clamp_min(1e-8) for d in (forward, anew))
        share = per_row((near / (near + far)).clamp_max(_MOST_BACK), point)
        mixed = (1 - share) * (point + _OVERSHOOT * forward) + share * (record + _OVERSHOOT * anew)
        return mixed.clamp(0, 1)
