"""The ball of Euclidean length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .ball import AnyNorm, Ball, per_row, tiny

__all__ = ["L2"]


@dataclass(frozen=True)
class L2(Ball):
    """The change as a whole may have the length ``radius``."""

    norm: ClassVar[AnyNorm] = "l2"

    def size(self, delta: Tensor) -> Tensor:
        """The Euclidean length."""
        length: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=2, dim=1)
        return length

    def diameter(self, features: int) -> float:
        """The diagonal of the cube."""
        return math.sqrt(features)

    def limited(self, delta: Tensor) -> Tensor:
        """Shortened along its direction."""
        size = per_row(self.size(delta), delta)
        return torch.where(size > self.radius, delta * (self.radius / size.clamp_min(tiny(size))), delta)

    def steepest(self, gradient: Tensor, point: Tensor | None = None) -> Tensor:
        """The unit vector along the gradient."""
        # Scaled by its largest entry first: squares of tiny gradients would underflow to a zero length.
        largest = torch.linalg.vector_norm(gradient.flatten(1), ord=float("inf"), dim=1)
        scaled = gradient / per_row(largest, gradient).clamp_min(tiny(gradient))
        return scaled / per_row(self.size(scaled), scaled).clamp_min(tiny(gradient))

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform in the ball: a Gaussian direction at a distance of radius * U^(1/d)."""
        normal = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        share = torch.rand(len(x), generator=generator, device=generator.device, dtype=x.dtype)
        distance = self.radius * share ** (1 / max(1, x[0].numel() if len(x) else 1))
        return (self.steepest(normal) * per_row(distance, normal)).to(x.device)
