"""A small convolutional network: two 3x3 convolutions with pooling and one linear layer.

Source: LeCun et al. 1998, Proc. IEEE 86:2278 (with ReLU and max-pooling).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from consilium.core.entry import check
from consilium.learn.architecture import Architecture, Normalise, require_image

__all__ = ["CNN"]


@dataclass(frozen=True)
class CNN(Architecture):
    """Two convolutions, two poolings, one linear layer; no normalisation layer, so it is lawful under DP."""

    width: int = 16
    """Channels of the first convolution."""

    def __post_init__(self) -> None:
        check(1 <= self.width <= 4096, "width", self.width, "1 to 4096 channels")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Channels ``width`` then 2 ``width``; the last feature map is pooled to 4x4 at most."""
        require_image(shape, self.kind())
        return nn.Sequential(
            Normalise(),
            nn.Conv2d(shape[0], self.width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(self.width, 2 * self.width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(min(4, shape[1] // 2, shape[2] // 2)),
            nn.Flatten(),
            nn.Linear(2 * self.width * min(4, shape[1] // 2, shape[2] // 2) ** 2, classes),
        )
