"""Basic iterative method: small steps along the gradient's sign from the record itself (iterative FGSM).

    x_0 = x,   x_{t+1} = P(x_t + radius / steps * u(grad L(x_t)))

Without a random start it draws nothing.  PGD's larger steps from random starts are stronger; see ``pgd``.

Source: Kurakin et al. 2017, Adversarial Examples in the Physical World, arXiv 1607.02533.
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
from consilium.learn.perturbation.losses import AttackLoss, LossName
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.perturbation.task_loss import attack_loss

from ._evasion import Evasion, stand_in

__all__ = ["BIM"]


@dataclass(frozen=True)
class BIM(Evasion):
    """Takes ``steps`` steps of radius / steps along the released model's gradient."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    steps: int = 10
    """Gradient steps, each of radius / steps."""
    norm: ConvexNorm = "linf"
    """How distance is measured: the largest change of a value, the Euclidean length of all, or their sum."""
    loss: LossName = "cross-entropy"
    """What is maximised; the margin's gradient does not vanish where the model is sure of itself."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.steps >= 1, "steps", self.steps, "at least 1")

    def climbs(self, task: Task) -> AttackLoss:
        """The loss by its name."""
        return attack_loss(self.loss, task)

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The first point that reaches the goal, else the last; nothing is drawn."""
        return maximise(
            stand_in(view),
            x,
            y,
            ball=self.ball(),
            steps=self.steps,
            step_size=self.radius / self.steps,
            random_start=False,
            generator=generator,
            loss=self.climbs(view.task),
            goal=self.goal_for(view.task),
            until=view.module,
        )
