"""Detection: is an attack noticed by the model's detector, if the attacker knows nothing of it, and if it does?

    plain       PGD up the margin, which follows the answers alone and takes all its steps
    adaptive    from what that found and from random starts: up the margin until the model is fooled, then down the
                detector's suspicion, orthogonal to the margin; rounding is followed straight through (BPDA)

For both: AUC and the true positive rate at 5 % false positives, of inputs that changed a right answer against the clean
test records.  A rejected input counts as no success of the attacker, a rejected clean record as an error; accuracy and
robust accuracy by that rule stand beside the rate of clean records that are rejected.  The plain robust accuracy counts
answers as if nothing were rejected.  A model without a detector has no such figures.

Reading: a detector is worth what is left of its AUC under the adaptive attack; at .5 it is beaten.

Source: Carlini and Wagner 2017, Adversarial Examples Are Not Easily Detected, arXiv 1705.07263; Bryniarski et al. 2021,
arXiv 2106.15023 (orthogonal steps)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.detection import detector_of
from consilium.core.entry import check
from consilium.core.finding import Finding
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.ball import Norm
from consilium.learn.perturbation.goals import GoalName
from consilium.learn.perturbation.losses import AttackLoss
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.perturbation.task_loss import attack_loss

from ._detection_figures import with_detection
from ._evading import Kept, Sight, least_suspected
from ._evasion import Evasion, stand_in
from .pgd import PGD

__all__ = ["Detection"]


@dataclass(frozen=True)
class Detection(Evasion):
    """Attacks a model with a detector twice, not knowing and knowing of it, and measures what is noticed."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")
    goals: ClassVar[tuple[GoalName, ...]] = ("misclassification",)

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    norm: Norm = "linf"
    """How distance is measured: the largest change of a value, or the Euclidean length of all."""
    steps: int = 40
    """Gradient steps of the plain attack, and of each start of the adaptive one."""
    restarts: int = 1
    """Random starts of the adaptive attack, besides the one from what the plain attack found."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.restarts >= 0, "restarts", self.restarts, "at least 0")

    def check_task(self, task: Task) -> None:
        """Refuse what has no classes, as detectors do."""
        super().check_task(task)
        refuse_unless_exclusive(task, self, "detectors look at the answers of classes that exclude each other")

    def climbs(self, task: Task) -> AttackLoss:
        """The margin."""
        return attack_loss("margin", task)

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """What the adaptive attack makes of them."""
        return self.craft_scored(view, x, y, generator)[0]

    def craft_scored(
        self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What the adaptive attack makes of them, and how suspect each record is before and after either attack."""
        sight = _sight(view)
        if sight is None:
            pgd = PGD(radius=self.radius, norm=self.norm, steps=self.steps, loss="margin")
            return pgd.craft(view, x, y, generator), {}
        plain = self._plain(view, x, y, generator)
        goal, loss, ball = self.goal_for(view.task), self.climbs(view.task), self.ball()
        fooled, suspicion = sight.judge(plain, y, goal)
        clean = sight.judge(x, y, goal)[1]
        best = Kept(plain, fooled, suspicion)
        starts = [plain, *(ball.random_start(x, generator) for _ in range(self.restarts))]
        for start in starts:
            best = least_suspected(sight, x, y, best, start, ball=ball, steps=self.steps, loss=loss, goal=goal)
        scores = {"suspicion": clean, "suspicion_plain": suspicion, "suspicion_adaptive": best.suspicion}
        return best.point, {**scores, "fooled_plain": fooled, "fooled_adaptive": best.fooled}

    def _plain(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """All steps are taken, as where detectors were published: a point just past the boundary is less suspect."""
        ball, goal, loss = self.ball(), self.goal_for(view.task), self.climbs(view.task)
        step_size, followed = ball.step_size(self.steps), stand_in(view)
        return maximise(
            followed, x, y, ball=ball, steps=self.steps, step_size=step_size, generator=generator, loss=loss, goal=goal
        )

    def extended(self, view: ModelView, finding: Finding) -> Finding:
        """With what the detector noticed, and what is left of the model with it."""
        sight = _sight(view)
        return with_detection(finding, None if sight is None else sight.detecting.get_buffer("threshold"))


def _sight(view: ModelView) -> Sight | None:
    followed = stand_in(view)
    detecting, suspected = detector_of(view.module), detector_of(followed)
    if detecting is None or suspected is None:
        return None
    return Sight(followed, suspected, view.module, detecting)
