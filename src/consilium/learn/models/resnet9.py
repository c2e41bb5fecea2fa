"""ResNet-9, the seed paper's network: eight 3x3 convolutions in two residual blocks, and one linear layer.

    w -> 2w (pool) -> residual 2w -> 4w (pool) -> 4w (pool) -> residual 4w -> adaptive max-pool 2x2 -> linear

GroupNorm is lawful under DP; BatchNorm mixes the examples of a batch and is not (LAWS 5).  Two knobs help DP-SGD: with
``scale-norm`` the sum of a residual block is normalised too; ``weight-standardisation`` is of the convolutions.

Source: Page 2018, "How to train your ResNet"; width and GroupNorm as in Usynin et al. 2022, arXiv:2205.02652.
ScaleNorm: Klause et al. 2022, arXiv 2203.00324; weight standardisation under DP: De et al. 2022, arXiv 2204.13650.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from consilium.core.entry import check, check_used
from consilium.learn.architecture import Architecture, Normalise, require_image
from consilium.learn.standardised import StandardisedConv2d

__all__ = ["ResNet9"]


@dataclass(frozen=True)
class ResNet9(Architecture):
    """Eight convolutions in two residual blocks, with group or batch normalisation and ReLU."""

    width: int = 64
    """Channels of the first convolution."""
    norm: Literal["group", "batch"] = "group"
    """Normalisation layers; batch normalisation mixes the records of a batch, which DP-SGD refuses."""
    groups: int = 8
    """Groups of channels that are normalised together."""
    scale_norm: bool = False
    """Whether the sum of each residual connection is normalised."""
    weight_standardisation: bool = False
    """Whether the weights of each convolution are standardised."""

    def __post_init__(self) -> None:
        check(1 <= self.width <= 1024, "width", self.width, "1 to 1024 channels")
        check(self.groups >= 1, "groups", self.groups, "at least 1 group")
        check_used(self, "groups", self.norm == "group", f"norm = {self.norm!r}")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """2.4 million parameters at width 64, 0.15 million at width 16."""
        require_image(shape, self.kind())
        w = self.width
        return nn.Sequential(
            Normalise(),
            self._block(shape[0], w),
            self._block(w, 2 * w, pool=True),
            *self._residual(2 * w),
            self._block(2 * w, 4 * w, pool=True),
            self._block(4 * w, 4 * w, pool=min(shape[1:]) >= 16),
            *self._residual(4 * w),
            nn.AdaptiveMaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * w, classes),
        )

    def _residual(self, width: int) -> list[nn.Module]:
        block = _Residual(nn.Sequential(self._block(width, width), self._block(width, width)))
        return [block, self._norm(width)] if self.scale_norm else [block]

    def _block(self, before: int, after: int, pool: bool = False) -> nn.Sequential:
        kind = StandardisedConv2d if self.weight_standardisation else nn.Conv2d
        layers: list[nn.Module] = [kind(before, after, 3, padding=1, bias=False), self._norm(after), nn.ReLU()]
        return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))

    def _norm(self, channels: int) -> nn.Module:
        if self.norm == "batch":
            return nn.BatchNorm2d(channels)
        return nn.GroupNorm(math.gcd(self.groups, channels), channels)


class _Residual(nn.Module):
    """x + block(x)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        out: Tensor = x + self.block(x)
        return out
