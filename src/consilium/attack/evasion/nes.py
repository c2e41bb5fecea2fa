"""NES: gradients estimated from answers at random points around the record, in pairs, and followed by projected steps.

    g = 1 / (2 m sigma) sum_k u_k (L(x + sigma u_k) - L(x - sigma u_k))        u_1, ..., u_m ~ N(0, 1)

L is the margin of the logits, where the authors take the logarithm of a probability.  A step costs 2 m answers and one
more for the point that it reaches; all records of a batch draw the same directions.

Source: Ilyas et al. 2018, Black-box Adversarial Attacks with Limited Queries and Information, arXiv 1804.08598
(section 2.1 and algorithm 1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.threat import ThreatModel
from consilium.learn.perturbation.ball import ConvexNorm, per_row

from ._black_box import Answers, BlackBox

__all__ = ["NES"]

_NUMBERS = 1 << 23
"""Numbers of moved points that are held at once: 32 MiB."""


@dataclass(frozen=True)
class NES(BlackBox):
    """Follows a gradient that is estimated from pairs of answers around each point."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "evasion")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    norm: ConvexNorm = "linf"
    """How distance is measured: the largest change of a value, the Euclidean length of all, or their sum."""
    queries: int = 5000
    """Answers that a record may cost; a step takes two for each direction and one more."""
    directions: int = 25
    """Random directions of one estimate; fewer where the budget ends."""
    sigma: float = 0.01
    """How far a point is moved in each direction, in standard deviations; answers that are rounded need a large one."""
    step_size: float | None = None
    """Length of a step; left out: a fifth of the radius."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        for knob in ("radius", "sigma"):
            check(getattr(self, knob) > 0, knob, getattr(self, knob), "a number above 0")
        check(self.step_size is None or self.step_size > 0, "step-size", self.step_size, "a positive number")
        check(self.directions >= 1, "directions", self.directions, "at least 1")
        check(self.queries >= 4, "queries", self.queries, "at least 4: the record's, a direction's two, and a step's")

    def search(self, answers: Answers, x: Tensor, generator: torch.Generator) -> Tensor:
        """The first point that reaches the goal; else the one of largest margin."""
        ball, length = self.ball(), self.step_size or self.radius / 5
        out, rows, point = x.clone(), torch.arange(len(x), device=x.device), x
        best, reached = answers.scores(x, rows)
        while True:
            rows, point, best = rows[~reached], point[~reached], best[~reached]
            count = min(self.directions, int((answers.remaining(rows).min() - 1) // 2)) if len(rows) else 0
            if count < 1:
                return out
            gradient = self.estimate(answers, point, rows, count, generator)
            point = ball.project(point + length * ball.steepest(gradient, point), x[rows])
            losses, reached = answers.scores(point, rows)
            better = (losses > best) | reached
            out[rows] = torch.where(per_row(better, point), point, out[rows])
            best = torch.where(better, losses, best)

    def estimate(self, answers: Answers, point: Tensor, rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """The gradient ``(m, *shape)`` of the loss at each ``point``, from ``count`` pairs of answers."""
        shape = (count, *point.shape[1:])
        directions = torch.randn(shape, generator=generator, device=generator.device, dtype=point.dtype).to(
            point.device
        )
        moves = self.sigma * torch.cat([directions, -directions])
        parts = torch.split(torch.arange(len(rows), device=point.device), max(1, _NUMBERS // moves.numel()))
        losses = [
            answers.scores((point[part, None] + moves).flatten(0, 1), rows[part].repeat_interleave(2 * count))[0]
            for part in parts
        ]
        upper, lower = torch.cat(losses).view(len(rows), 2, count).unbind(1)
        differences = torch.nan_to_num(upper - lower, posinf=0, neginf=0)
        gradient: Tensor = torch.tensordot(differences, directions, 1) / (2 * self.sigma * count)
        return gradient
