"""The ball of the largest change of any feature: a cube."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .ball import AnyNorm, Ball

__all__ = ["Linf"]


@dataclass(frozen=True)
class Linf(Ball):
    """Every feature may change by ``radius``."""

    norm: ClassVar[AnyNorm] = "linf"

    def size(self, delta: Tensor) -> Tensor:
        """The largest change."""
        largest: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=float("inf"), dim=1)
        return largest

    def diameter(self, features: int) -> float:
        """From 0 to 1."""
        return 1.0

    def limited(self, delta: Tensor) -> Tensor:
        """Each feature by itself."""
        return delta.clamp(-self.radius, self.radius)

    def steepest(self, gradient: Tensor, point: Tensor | None = None) -> Tensor:
        """The sign of each feature's derivative."""
        return gradient.sign()

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform in the cube."""
        uniform = torch.rand(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        return (self.radius * (2 * uniform - 1)).to(x.device)
