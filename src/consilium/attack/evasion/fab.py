"""FAB-T: projections in turn onto the boundary of one wrong class after the other, always pulled back to the record.

    x <- (1 - a) (x + eta d1) + a (record + eta d2),   d1, d2 the nearest points of the linearised boundary in the box

It needs no radius and no step size, and its result does not change with the scale of the logits: the third attack of
AutoAttack's standard, which takes the nine wrong classes of largest logit, 100 steps each.

Source: Croce and Hein 2020, arXiv 1907.02044 (FAB); Croce and Hein 2020, arXiv 2003.01690 (targeted, in AutoAttack)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.threat import ThreatModel
from consilium.learn.perturbation.ball import ConvexNorm
from consilium.learn.perturbation.goals import GoalName
from consilium.learn.perturbation.nearest.boundary import Boundary
from consilium.learn.perturbation.nearest.fast_boundary import FastBoundary

from ._minimum_norm import MinimumNorm

__all__ = ["FAB"]


@dataclass(frozen=True)
class FAB(MinimumNorm):
    """Projects onto the linearised boundary of the wrong classes of largest logit, one after the other."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")
    goals: ClassVar[tuple[GoalName, ...]] = ("misclassification", "targeted", "source-to-target")

    radius: float = 0.03
    """Distance up to which a record counts as fooled, in the norm, in units of the inputs' range [0, 1]."""
    norm: ConvexNorm = "linf"
    """How distance is measured: the largest change of a value, the Euclidean length of all, or their sum."""
    steps: int = 100
    """Projections towards each class."""
    targets: int = 9
    """Wrong classes that are tried, those of largest logit; all where there are fewer."""
    exhaustive: bool = True
    """Whether a record that is fooled within the radius is attacked further, for a smaller perturbation."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.targets >= 1, "targets", self.targets, "at least 1")

    def check_task(self, task: Task) -> None:
        """Refuse a task without classes."""
        refuse_unless_exclusive(task, self, "it goes for one class at a time")
        super().check_task(task)

    def nearest(self, boundary: Boundary, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The nearest point of all targets."""
        enough = -math.inf if self.exhaustive else self.radius
        return FastBoundary(boundary, self.norm, self.steps, self.targets, enough)(x, y)
