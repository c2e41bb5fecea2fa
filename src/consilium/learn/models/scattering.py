"""Scattering features, normalised by groups, and one linear layer: under DP often better than learning every layer.

    x -> S x (fixed) -> group normalisation without parameters -> linear

The features are fixed and record-wise, so a training computes them once per record and not once per step; the released
model takes raw images, and white-box attacks have gradients through all of it.

Source: Tramer & Boneh 2021, Differentially Private Learning Needs Better Features, arXiv 2011.11660.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from consilium.core.entry import check
from consilium.core.front import Front
from consilium.learn.architecture import Architecture, require_image
from consilium.learn.scattering import Scattering as Transform

__all__ = ["ScatteringModel"]


@dataclass(frozen=True)
class ScatteringModel(Architecture):
    """A linear layer on scattering coefficients.

    ``scale`` J: averages over 2^J pixels; ``angles`` L of the wavelets; ``groups`` of coefficients that are normalised
    together (0: none are).
    """

    scale: int = 2
    """J: coefficients are averages over 2^J pixels."""
    angles: int = 8
    """Orientations of the wavelets."""
    groups: int = 27
    """Groups of coefficients that are normalised together."""

    def __post_init__(self) -> None:
        check(1 <= self.scale <= 5, "scale", self.scale, "1 to 5")
        check(2 <= self.angles <= 32 and self.angles % 2 == 0, "angles", self.angles, "an even number, 2 to 32")
        check(self.groups >= 0, "groups", self.groups, "a number of groups, or 0 for no normalisation")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """81 coefficients for each of 7 x 7 places of a 28 x 28 image: a linear layer on 3969 numbers."""
        require_image(shape, self.kind())
        front = _Features(Transform((shape[1], shape[2]), self.scale, self.angles), shape[0], self.groups)
        places = (shape[1] >> self.scale) * (shape[2] >> self.scale)
        return nn.Sequential(front, nn.Flatten(), nn.Linear(front.channels * places, classes))


class _Features(Front):
    """The coefficients ``(n, channels, h', w')``, each group of each image with mean 0 and variance 1."""

    def __init__(self, transform: Transform, before: int, groups: int) -> None:
        super().__init__()
        self.channels = before * transform.paths
        self.transform = transform
        norm = nn.GroupNorm(math.gcd(groups, self.channels), self.channels, affine=False) if groups else nn.Identity()
        self.norm: nn.Module = norm

    def forward(self, x: Tensor) -> Tensor:
        """Of raw images in [0, 1]."""
        out: Tensor = self.norm(self.transform(x))
        return out
