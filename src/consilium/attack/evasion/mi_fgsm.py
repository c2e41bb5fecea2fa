"""Momentum iterative FGSM: steps of radius / steps along a decaying sum of the gradients seen so far.

    g_{t+1} = decay g_t + grad L(x_t) / |grad L(x_t)|_1,   x_{t+1} = P(x_t + radius / steps * u(g_{t+1}))

With decay 0 it is the basic iterative method (``bim``).

Source: Dong et al. 2018, Boosting Adversarial Attacks with Momentum, arXiv 1710.06081.
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
from consilium.learn.perturbation.momentum import maximise_with_momentum
from consilium.learn.perturbation.task_loss import attack_loss

from ._evasion import Evasion, stand_in

__all__ = ["MIFGSM"]


@dataclass(frozen=True)
class MIFGSM(Evasion):
    """Takes ``steps`` steps of radius / steps along a decaying sum of the released model's gradients."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    steps: int = 10
    """Gradient steps, each of radius / steps."""
    decay: float = 1.0
    """Share of the earlier gradients' sum that each step keeps."""
    norm: ConvexNorm = "linf"
    """How distance is measured: the largest change of a value, the Euclidean length of all, or their sum."""
    loss: LossName = "cross-entropy"
    """What is maximised; the margin's gradient does not vanish where the model is sure of itself."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.decay >= 0, "decay", self.decay, "a number of at least 0")

    def climbs(self, task: Task) -> AttackLoss:
        """The loss by its name."""
        return attack_loss(self.loss, task)

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The first point that reaches the goal, else the last; nothing is drawn."""
        return maximise_with_momentum(
            stand_in(view),
            x,
            y,
            ball=self.ball(),
            steps=self.steps,
            step_size=self.radius / self.steps,
            decay=self.decay,
            loss=self.climbs(view.task),
            goal=self.goal_for(view.task),
            until=view.module,
        )
