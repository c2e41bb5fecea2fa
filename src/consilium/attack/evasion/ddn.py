"""DDN: gradient steps on a sphere around the record that shrinks after each success and grows after each failure.

    d <- radius u(d + a u(grad L)),   radius <- (1 -+ gamma) radius

With 100 steps it finds smaller Euclidean changes than Carlini and Wagner's attack does in far more.

Source: Rony et al. 2019, Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial Attacks, CVPR,
arXiv 1811.09600
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.task import Task
from consilium.core.threat import ThreatModel
from consilium.learn.perturbation.losses import AttackLoss
from consilium.learn.perturbation.nearest.boundary import Boundary
from consilium.learn.perturbation.nearest.decoupled_norm import decoupled_norm
from consilium.learn.perturbation.task_loss import attack_loss

from ._minimum_norm import MinimumNorm

__all__ = ["DDN"]


@dataclass(frozen=True)
class DDN(MinimumNorm):
    """Follows the gradient on a sphere whose radius adapts to success, record by record."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")

    radius: float = 0.5
    """Distance up to which a record counts as fooled, in the norm, in units of the inputs' range [0, 1]."""
    norm: Literal["l2"] = "l2"
    """How distance is measured: the Euclidean length of all changes, alone."""
    steps: int = 100
    """Gradient steps."""
    gamma: float = 0.05
    """By which share the sphere shrinks or grows at each step."""
    start: float = 1.0
    """Radius of the first sphere."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(0 < self.gamma < 1, "gamma", self.gamma, "a share above 0 and below 1")
        check(self.start > 0, "start", self.start, "a number above 0")

    def climbs(self, task: Task) -> AttackLoss:
        """The task's own loss: cross-entropy for classes."""
        return attack_loss("cross-entropy", task)

    def nearest(self, boundary: Boundary, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The smallest sphere's point that reaches the goal."""
        return decoupled_norm(boundary, x, y, steps=self.steps, gamma=self.gamma, start=self.start)
