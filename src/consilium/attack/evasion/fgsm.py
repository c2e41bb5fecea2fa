"""Fast gradient method: one full step along the gradient.

    x + radius * sign(grad_x CE(f(x), y))        (linf; along the unit gradient in l2), cut to [0, 1]

Weak by design, and cheap: a model that resists FGSM but not PGD hides its gradients rather than being robust.

Source: Goodfellow et al. 2015, Explaining and Harnessing Adversarial Examples, arXiv 1412.6572.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.task import Task
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.ball import ConvexNorm
from consilium.learn.perturbation.losses import AttackLoss
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.perturbation.task_loss import attack_loss

from ._evasion import Evasion, stand_in

__all__ = ["FGSM"]


@dataclass(frozen=True)
class FGSM(Evasion):
    """Takes one step of length ``radius`` along the model's gradient."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    norm: ConvexNorm = "linf"
    """How distance is measured: the largest change of a value, the Euclidean length of all, or their sum."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")

    def climbs(self, task: Task) -> AttackLoss:
        """The task's own loss: cross-entropy for classes."""
        return attack_loss("cross-entropy", task)

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """One step from x; nothing is drawn."""
        return maximise(
            stand_in(view),
            x,
            y,
            ball=self.ball(),
            steps=1,
            step_size=self.radius,
            random_start=False,
            generator=generator,
            loss=self.climbs(view.task),
            goal=self.goal_for(view.task),
        )
