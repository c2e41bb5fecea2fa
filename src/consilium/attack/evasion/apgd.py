"""Auto-PGD: projected steps with momentum whose length halves by itself where the loss no longer rises.

    loss = cross-entropy   APGD-CE      loss = dlr   APGD-DLR, the same at any scale of the logits      loss = margin

It has no step size to choose.  Fooled records drop out of the batch; a restart starts from another random point.  In l1
the steps are sparse, and the number of features that move adapts itself.

Source: Croce and Hein 2020, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
Attacks, arXiv 2003.01690; Croce and Hein 2021, Mind the Box, arXiv 2103.01208 (l1); Athalye et al. 2018, arXiv
1707.07397 (samples per gradient).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.ball import ConvexNorm
from consilium.learn.perturbation.losses import LOSSES, AttackLoss, ClassLossName
from consilium.learn.perturbation.maximise import mean_logits
from consilium.learn.perturbation.task_loss import attack_loss

from ._auto_pgd import AutoWalk
from ._evasion import Evasion, stand_in

__all__ = ["APGD"]


@dataclass(frozen=True)
class APGD(Evasion):
    """Follows the released model's gradient with a step size that adapts itself, worst case over restarts per image."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")
    added_later: ClassVar[tuple[str, ...]] = (*Evasion.added_later, "samples_per_gradient")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    steps: int = 100
    """Gradient steps of each start."""
    norm: ConvexNorm = "linf"
    """How distance is measured: the largest change of a value, the Euclidean length of all, or their sum."""
    restarts: int = 1
    """Random starts; a record counts as fooled if any of them fools the model."""
    loss: ClassLossName = "cross-entropy"
    """What is maximised: the cross-entropy (APGD-CE), the difference of logits ratio (APGD-DLR), or the margin."""
    samples_per_gradient: int = 1
    """Gradients whose mean is followed, and answers whose mean is judged on the way; more than 1 for a model that draws
    anew at each answer."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.restarts >= 1, "restarts", self.restarts, "at least 1")
        check(self.samples_per_gradient >= 1, "samples_per_gradient", self.samples_per_gradient, "at least 1")

    def check_task(self, task: Task) -> None:
        """Refuse the ratio of logits on a task without classes."""
        super().check_task(task)
        if self.loss == "dlr":
            refuse_unless_exclusive(task, self, "its loss 'dlr' is a ratio of the logits of classes")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse too few classes for the ratio of logits.

        Raises Refused: fewer than 3 classes, or than 4 for a goal with a target.
        """
        super().check_fit(shape, classes)
        needed = 3 if self.target is None else 4
        if self.loss == "dlr" and classes < needed:
            reason = f"{self.kind()} with loss 'dlr' needs {needed} classes and the data have {classes}"
            raise Refused(reason, remedy='use loss = "margin"', where="loss")

    def climbs(self, task: Task) -> AttackLoss:
        """The loss by its name."""
        return LOSSES["dlr"] if self.loss == "dlr" else attack_loss(self.loss, task)

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The first point of any restart that reaches the goal, else that of largest loss of the last one."""
        goal, out = self.goal_for(view.task), x.clone()
        walk = AutoWalk(
            stand_in(view), view.module, self.norm, self.radius, self.steps, self.samples_per_gradient
        )  # fmt: skip
        reached = goal.surely(mean_logits(view.module, x, walk.samples), y)
        for _ in range(self.restarts):
            rows = torch.nonzero(~reached)[:, 0]
            if not len(rows):
                break
            out[rows] = walk(x[rows], y[rows], self.climbs(view.task), goal, generator)
            reached[rows] = goal.surely(mean_logits(view.module, out[rows], walk.samples), y[rows])
        return out
