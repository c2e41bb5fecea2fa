"""The ball of few changed features: which ones, and by how much, is free.

Source: Croce and Hein 2019, Sparse and Imperceivable Adversarial Attacks, arXiv 1909.05040 (projection on l0 and box)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check

from .ball import AnyNorm, Ball, stopped

__all__ = ["L0"]


@dataclass(frozen=True)
class L0(Ball):
    """``radius`` features, a whole number, may take any value in [0, 1]."""

    norm: ClassVar[AnyNorm] = "l0"

    def __post_init__(self) -> None:
        whole = self.radius >= 0 and float(self.radius).is_integer()
        check(whole, "radius", self.radius, "a whole number of features")

    def size(self, delta: Tensor) -> Tensor:
        """How many features change."""
        return (delta.flatten(1) != 0).sum(1).to(delta.dtype)

    def diameter(self, features: int) -> float:
        """Every feature."""
        return float(features)

    def limited(self, delta: Tensor) -> Tensor:
        """The largest changes stay, the others are undone."""
        return delta * self._largest(delta)

    def project(self, point: Tensor, x: Tensor) -> Tensor:
        """The nearest point of the ball and [0, 1] together: what is cut to [0, 1] anyway counts as cut."""
        inside = point.clamp(0, 1)
        gain = (point - x).square() - (point - inside).square()
        return torch.where(self._largest(gain).bool(), inside, x)

    def steepest(self, gradient: Tensor, point: Tensor | None = None) -> Tensor:
        """The sign on the features of largest derivative."""
        gradient = stopped(gradient, point)
        return gradient.sign() * self._largest(gradient)

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """New values, uniform in [0, 1], for features drawn at random."""
        scores = torch.rand(x.shape, generator=generator, device=generator.device, dtype=x.dtype)
        values = torch.rand(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
        return (values - x) * self._largest(scores.to(x.device))

    def _largest(self, values: Tensor) -> Tensor:
        """1 at the ``radius`` largest sizes of each row, else 0."""
        flat = values.flatten(1).abs()
        places = flat.topk(min(int(self.radius), flat.shape[1]), dim=1).indices
        return torch.zeros_like(flat).scatter(1, places, 1).view_as(values)
