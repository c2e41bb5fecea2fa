"""What the attacks share that look for the smallest perturbation, and not for any within a radius.

    distance of a record   the size of the smallest perturbation at which the goal was reached: 0 where the answer was
                           wrong without one, infinite where none was found
    robust accuracy at r   the share of records with a distance above r: one run gives the curve over all radii

A subclass writes ``nearest``.  The base asks it for the records that are right, shortens what it gives along the
segment to the record, has it judged by the released model in whole batches, and hands on what is within the ``radius``.

Source: Carlini et al. 2019, On Evaluating Adversarial Robustness, arXiv 1902.06705 (section 4.3: curves)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import final

import torch
from torch import Tensor

from consilium.core.entry import check, check_used
from consilium.core.finding import Finding
from consilium.core.task import Task
from consilium.core.threat import ModelView
from consilium.learn.perturbation.ball import per_row
from consilium.learn.perturbation.balls import size_of
from consilium.learn.perturbation.losses import AttackLoss
from consilium.learn.perturbation.nearest.boundary import Boundary, gap_loss
from consilium.learn.perturbation.nearest.closest import shortened

from ._distance_figures import distance_figures
from ._evasion import Evasion, stand_in

__all__ = ["MinimumNorm"]

_ROUNDING = 1e-6
"""By how much float32 may oversize a perturbation of exactly the radius."""
_LEVELS = 255


@dataclass(frozen=True)
class MinimumNorm(Evasion, ABC):
    """Finds the smallest perturbation of each record that it can; success is one within ``radius``."""

    _: KW_ONLY
    halvings: int = 8
    """How often the segment between a record and its adversarial point is halved in the end, for a nearer one."""
    eight_bit: bool = False
    """Whether adversarial inputs are rounded to the 256 levels of an image file before they are judged."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.norm != "l0" or float(self.radius).is_integer(), "radius", self.radius, "a whole number of features")
        check(self.halvings >= 0, "halvings", self.halvings, "at least 0")
        check_used(self, "halvings", self.norm != "l0", 'norm = "l0": a shorter change is of as many features')

    @abstractmethod
    def nearest(self, boundary: Boundary, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The nearest points ``(n, *shape)`` found, in [0, 1], that reach the goal; any other where there is none."""

    def climbs(self, task: Task) -> AttackLoss:
        """The gap to the goal."""
        return gap_loss(self.goal_for(task), task)

    @final
    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The smallest perturbation of each record where that is within the radius; else the record itself."""
        return self.craft_scored(view, x, y, generator)[0]

    @final
    def craft_scored(
        self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The same with the score ``distance (n,)``."""
        points, distances = self.closest(view, x, y, generator)
        within = distances <= self.radius + _ROUNDING
        return torch.where(per_row(within, x), points, x), {"distance": distances}

    @final
    def extended(self, view: ModelView, finding: Finding) -> Finding:
        """The figures of the distances, infinite for records that the goal is not for."""
        aimed, before = self.goal_for(view.task).applies(view.targets.y), finding.scores["correct_before"]
        missing = torch.where(before, math.inf, 0.0).to(finding.scores["distance"])
        distances = torch.where(aimed, finding.scores["distance"], missing)
        figures = distance_figures(
            distances[before & aimed], finding.measures[0].reason, view.targets.units[before & aimed]
        )
        scores = {**finding.scores, "distance": distances}
        return replace(finding, scores=scores, measures=(*finding.measures, *figures))

    @final
    def closest(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The nearest points ``(n, *shape)`` that reach the goal, by the released model, and their distances ``(n,)``.

        A distance is 0 where the answer is wrong as it is, and infinite where no point was found.
        """
        goal = self.goal_for(view.task)
        boundary = Boundary(stand_in(view), view.module, goal, self.climbs(view.task))
        with torch.no_grad():
            logits = view.module(x)
            tried = view.task.right(logits, y) & ~goal.reached(logits, y)
        rows = torch.nonzero(tried)[:, 0]
        points = x.clone()
        if len(rows):
            points[rows] = self._refined(boundary, x[rows], y[rows], generator)
        with torch.no_grad():
            reached = goal.reached(view.module(points), y)
        distances = torch.where(reached, size_of(points - x, self.norm), math.inf)
        return points, torch.where(tried, distances, 0.0)

    def _refined(self, boundary: Boundary, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        points = self.nearest(boundary, x, y, generator).detach()
        if self.halvings and self.norm != "l0":
            rows = torch.nonzero(boundary.reached(points, y))[:, 0]
            points[rows] = shortened(boundary, x[rows], points[rows], y[rows], self.halvings)
        return (points * _LEVELS).round() / _LEVELS if self.eight_bit else points
