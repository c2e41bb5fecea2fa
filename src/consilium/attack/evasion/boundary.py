"""Boundary attack: a random walk along the decision boundary that comes nearer to the record, by labels alone.

    step 1   across: a random direction of length o * D, back onto the sphere of radius D around the record
    step 2   towards the record: by s * D

A step that still reaches the goal is taken.  Each record's o and s adapt to how often its steps succeed: the boundary
is locally flat where about half of the steps across do.  A record is done as soon as it is within ``radius``.

It costs far more queries than HopSkipJump for the same distance, and presumes nothing of the boundary.

Source: Brendel, Rauber and Bethge 2018, Decision-Based Adversarial Attacks, arXiv 1712.04248.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.threat import ThreatModel
from consilium.learn.perturbation.ball import per_row, tiny
from consilium.learn.perturbation.goals import GoalName

from ._black_box import Answers, BlackBox
from ._decisions import bisected, starting_points

__all__ = ["BoundaryAttack"]

_PERIOD = 10
"""Steps after which the lengths of steps are adapted."""


@dataclass(frozen=True)
class BoundaryAttack(BlackBox):
    """Walks at random along the decision boundary towards the record; needs the answered label alone."""

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "black-box", "evasion")
    goals: ClassVar[tuple[GoalName, ...]] = ("misclassification", "targeted", "source-to-target")

    radius: float = 0.5
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    norm: Literal["l2"] = "l2"
    """How distance is measured: the Euclidean length, of which the walk is a random one."""
    queries: int = 5000
    """Answers that a record may cost."""
    across: float = 0.1
    """Length of the first step across, as a share of the distance."""
    towards: float = 0.1
    """Length of the first step towards the record, as a share of the distance."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.queries >= 2, "queries", self.queries, "at least 2: the record's and a start's")
        for knob in ("across", "towards"):
            value = getattr(self, knob)
            check(0 < value < 1, knob, value, "a share of the distance between 0 and 1")

    def search(self, answers: Answers, x: Tensor, generator: torch.Generator) -> Tensor:
        """The first point within the radius that reaches the goal; else the last one, moved into the ball."""
        out, rows = x.clone(), torch.arange(len(x), device=x.device)
        rows, point = starting_points(answers, x, rows[~answers.reached(x, rows)], generator)
        point = bisected(answers, x[rows], point, rows, "l2", math.ceil(math.log2(max(2, x[0].numel()))))
        lengths = torch.tensor([self.across, self.towards], device=x.device, dtype=x.dtype).repeat(len(rows), 1)
        successes, step = torch.zeros_like(lengths), 0
        while True:
            out[rows] = self.ball().project(point, x[rows])
            going = (self.ball().size(point - x[rows]) > self.radius) & (answers.remaining(rows) >= 2)
            rows, point, lengths, successes = rows[going], point[going], lengths[going], successes[going]
            if not len(rows):
                break
            point, passed = self._stepped(answers, x[rows], point, rows, lengths, generator)
            successes, step = successes + passed, step + 1
            if step % _PERIOD == 0:
                lengths, successes = _adapted(lengths, successes / _PERIOD), torch.zeros_like(successes)
        return out

    def _stepped(
        self, answers: Answers, x: Tensor, point: Tensor, rows: Tensor, lengths: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The points after one step, and which of its two halves reached the goal ``(m, 2)``, as numbers."""
        inward = x - point
        distance = self.ball().size(inward)
        noise = torch.randn(x.shape[1:], generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
        side = noise - inward * per_row((noise * inward).flatten(1).sum(1) / distance.square().clamp_min(tiny(x)), x)
        side = side * per_row(lengths[:, 0] * distance / self.ball().size(side).clamp_min(tiny(x)), x)
        moved = x - (inward - side) / per_row((1 + lengths[:, 0].square()).sqrt(), x)
        moved = moved.clamp(0, 1)
        level = answers.reached(moved, rows)
        nearer = torch.where(per_row(level, x), moved, point)
        closer = (nearer + per_row(lengths[:, 1], x) * (x - nearer)).clamp(0, 1)
        inside = torch.zeros_like(level)
        tried = torch.nonzero(level)[:, 0]
        if len(tried):
            inside[tried] = answers.reached(closer[tried], rows[tried])
        point = torch.where(per_row(inside, x), closer, nearer)
        return point, torch.stack([level, inside], 1).to(x.dtype)


def _adapted(lengths: Tensor, rates: Tensor) -> Tensor:
    """Longer steps across where more than half succeed; longer ones inwards where over a quarter of those do."""
    goals = torch.tensor([[0.5, 0.25]], device=lengths.device)
    shares = torch.stack([rates[:, 0], rates[:, 1] / rates[:, 0].clamp_min(1e-9)], 1)
    factors = torch.where(shares > goals, 1.5, torch.where(shares < goals / 2, 1 / 1.5, 1.0))
    return (lengths * factors).clamp(1e-7, 0.9)
