"""FMN: gradient steps in a ball that follows the distance to the boundary, by any of four norms.

    d <- P(d + a u(grad gap));   the radius goes to |d| + |gap| / |grad gap|_q first, then shrinks or grows by gamma

Source: Pintor et al. 2021, Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints, NeurIPS,
arXiv 2102.12827
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.threat import ThreatModel
from consilium.learn.perturbation.ball import AnyNorm
from consilium.learn.perturbation.nearest.boundary import Boundary
from consilium.learn.perturbation.nearest.fast_minimum_norm import fast_minimum_norm

from ._minimum_norm import MinimumNorm

__all__ = ["FMN"]


@dataclass(frozen=True)
class FMN(MinimumNorm):
    """Follows the gradient of the gap in a ball whose radius adapts to success, by any norm."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")

    radius: float = 0.03
    """Distance up to which a record counts as fooled, in the norm, in units of the inputs' range [0, 1]."""
    norm: AnyNorm = "linf"
    """How distance is measured: the largest change, the Euclidean length, the sum, or the number of changes."""
    steps: int = 100
    """Gradient steps."""
    step_size: float = 1.0
    """Length of the first step; it falls to a hundredth."""
    gamma: float = 0.05
    """By which share the ball shrinks or grows at the first step; it falls to 0.001."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.step_size > 0, "step-size", self.step_size, "a positive number")
        check(0 < self.gamma < 1, "gamma", self.gamma, "a share above 0 and below 1")

    def nearest(self, boundary: Boundary, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The smallest ball's point that reaches the goal."""
        return fast_minimum_norm(
            boundary, x, y, norm=self.norm, steps=self.steps, step_size=self.step_size, gamma=self.gamma
        )
