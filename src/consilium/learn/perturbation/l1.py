"""The ball of the sum of all changes: few features change much, or many a little.

    limited:   the nearest point, sign(d) max(|d| - t, 0) with t such that the sizes sum to the radius
    steepest:  the sign on the features of largest derivative, all alike

The single feature of largest derivative would be steepest, and reaches 0 or 1 after a step or two; a ``share`` of the
features moves together instead, as in sparse descent.

Source: Duchi et al. 2008, Efficient Projections onto the l1-Ball, ICML; Tramer and Boneh 2019, arXiv 1904.13000 (SLIDE)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check

from .ball import AnyNorm, Ball, per_row, stopped, tiny

__all__ = ["L1"]


@dataclass(frozen=True)
class L1(Ball):
    """The changes of all features may sum to ``radius``; a step moves the ``share`` of largest derivative.

    The nearest point of ball and [0, 1] together may differ from the result of ``project``; this one is in both.
    """

    norm: ClassVar[AnyNorm] = "l1"
    share: float = 0.01

    def __post_init__(self) -> None:
        check(0 <= self.share <= 1, "share", self.share, "a share of the features, 0 (one feature) to 1")

    def size(self, delta: Tensor) -> Tensor:
        """The sum of the changes."""
        return delta.flatten(1).abs().sum(1)

    def diameter(self, features: int) -> float:
        """Every feature from 0 to 1."""
        return float(features)

    def limited(self, delta: Tensor) -> Tensor:
        """The nearest point: all changes are lowered by one threshold, to zero at most."""
        sizes = delta.flatten(1).abs()
        falling = sizes.sort(dim=1, descending=True).values
        count = torch.arange(1, sizes.shape[1] + 1, device=delta.device)
        surplus = falling.cumsum(1) - self.radius
        used = (falling * count > surplus).sum(1, keepdim=True).clamp_min(1)
        threshold = (surplus.gather(1, used - 1) / used).clamp_min(0)
        lowered = (sizes - threshold).clamp_min(0)
        # Rounding of a long sum may leave a little more than the radius.
        total = lowered.sum(1, keepdim=True)
        lowered = torch.where(total > self.radius, lowered * (self.radius / total.clamp_min(tiny(total))), lowered)
        return lowered.view_as(delta) * delta.sign()

    def steepest(self, gradient: Tensor, point: Tensor | None = None) -> Tensor:
        """Equal steps of the features of largest derivative, of sum one."""
        flat = stopped(gradient, point).flatten(1)
        number = max(1, math.ceil(self.share * flat.shape[1]))
        places = flat.abs().topk(min(number, flat.shape[1]), dim=1).indices
        signs = torch.zeros_like(flat).scatter(1, places, flat.gather(1, places).sign())
        return (signs / signs.abs().sum(1, keepdim=True).clamp_min(1)).view_as(gradient)

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform in the ball: exponential sizes over their sum with one more, random signs."""
        d = x[0].numel() if len(x) else 1
        # 1 - U is in (0, 1], so that its logarithm is finite.
        uniform = torch.rand(len(x), d + 1, generator=generator, device=generator.device, dtype=x.dtype)
        exponential = -torch.log(1 - uniform)
        share = exponential[:, :d] / exponential.sum(1, keepdim=True).clamp_min(tiny(exponential))
        signs = 2 * torch.randint(2, (len(x), d), generator=generator, device=generator.device).to(x.dtype) - 1
        noise = share * signs * per_row(torch.full((len(x),), self.radius, device=generator.device), share)
        return noise.view(x.shape).to(x.device)
