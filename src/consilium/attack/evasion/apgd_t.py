"""Targeted Auto-PGD: one walk towards each of the likeliest wrong classes of a record, one after the other.

    climbs (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)  for the t of the ``classes`` largest wrong logits of the record

A record is fooled by any wrong answer, whichever class the walk was aimed at, and then leaves.  The ratio needs four
classes; with three or two the margin between the target and the right class stands in for it.

Source: Croce and Hein 2020, arXiv 2003.01690 (section 5: APGD-DLR-T); Croce and Hein 2021, arXiv 2103.01208 (l1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.ball import ConvexNorm
from consilium.learn.perturbation.goals import Aimed, GoalName
from consilium.learn.perturbation.losses import DLR, AttackLoss, LeadLoss, likeliest_wrong
from consilium.learn.perturbation.maximise import mean_logits
from consilium.learn.perturbation.task_loss import attack_loss

from ._auto_pgd import AutoWalk
from ._evasion import Evasion, stand_in

__all__ = ["APGDT"]

_FEWEST = 4
"""Classes that the targeted ratio needs."""


@dataclass(frozen=True)
class APGDT(Evasion):
    """Walks towards each of the likeliest wrong classes with a step size that adapts itself."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")
    goals: ClassVar[tuple[GoalName, ...]] = ("misclassification",)
    added_later: ClassVar[tuple[str, ...]] = (*Evasion.added_later, "samples_per_gradient")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    steps: int = 100
    """Gradient steps towards each class."""
    norm: ConvexNorm = "linf"
    """How distance is measured: the largest change of a value, the Euclidean length of all, or their sum."""
    targets: int = 9
    """How many of the likeliest wrong classes are tried; all of them where there are fewer."""
    restarts: int = 1
    """Random starts for each class."""
    samples_per_gradient: int = 1
    """Gradients whose mean is followed, and answers whose mean is judged on the way; more than 1 for a model that draws
    anew at each answer."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.targets >= 1, "targets", self.targets, "at least 1")
        check(self.restarts >= 1, "restarts", self.restarts, "at least 1")
        check(self.samples_per_gradient >= 1, "samples_per_gradient", self.samples_per_gradient, "at least 1")

    def check_task(self, task: Task) -> None:
        """Refuse what has no classes."""
        super().check_task(task)
        refuse_unless_exclusive(task, self, "it walks towards one wrong class after the other")

    def climbs(self, task: Task) -> AttackLoss:
        """At the record itself, where it is asked whether there is a gradient at all: the margin."""
        return attack_loss("margin", task)

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The first point that is answered wrongly, else that of largest loss of the last walk."""
        goal, out, samples = Aimed(view.task), x.clone(), self.samples_per_gradient
        loss: AttackLoss = DLR() if view.classes >= _FEWEST else LeadLoss()
        walk = AutoWalk(stand_in(view), view.module, self.norm, self.radius, self.steps, samples)
        wrong = view.task.surely_wrong(mean_logits(view.module, x, samples), y)
        ranked = likeliest_wrong(mean_logits(walk.predict, x, samples), y, self.targets)
        for column in range(ranked.shape[1]):
            for _ in range(self.restarts):
                rows = torch.nonzero(~wrong)[:, 0]
                if not len(rows):
                    return out
                aims = torch.stack([y[rows], ranked[rows, column]], 1)
                out[rows] = walk(x[rows], aims, loss, goal, generator)
                wrong[rows] = view.task.surely_wrong(mean_logits(view.module, out[rows], samples), y[rows])
        return out
