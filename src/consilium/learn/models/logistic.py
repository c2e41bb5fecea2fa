"""Multinomial logistic regression: one linear layer on the flattened input, or on means over squares of its pixels.

    logits = W mean_s(2 x - 1) + b,      mean_s: over s x s pixels, s = pool

The means are fixed: with pool = 2 a picture has a quarter of the weights, and under DP a quarter of the noise's energy.

Source: Cox 1958, J. R. Stat. Soc. B 20:215.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.learn.architecture import Architecture, Normalise, require_image

__all__ = ["Logistic"]


@dataclass(frozen=True)
class Logistic(Architecture):
    """A single linear layer, on every value of the input or on means over ``pool`` x ``pool`` pixels."""

    added_later: ClassVar[tuple[str, ...]] = ("pool",)

    pool: int = 1
    """Side of the squares of pixels of which the mean alone is an input; 1: every value is one."""

    def __post_init__(self) -> None:
        check(1 <= self.pool <= 4096, "pool", self.pool, "1 to 4096 pixels, the picture's side at most")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Linear(prod(shape), classes); of pictures with ``pool``, a linear layer on the means of whole squares.

        Raises Refused: ``pool`` is above 1 and ``shape`` is no picture, or one that is smaller than a square.
        """
        if self.pool == 1:
            return nn.Sequential(Normalise(), nn.Flatten(), nn.Linear(math.prod(shape), classes))
        require_image(shape, self.kind())
        if self.pool > min(shape[1:]):
            raise Refused(
                f"logistic takes means over squares of {self.pool} x {self.pool}, and the pictures have "
                f"{shape[1]} x {shape[2]}",
                remedy=f"use a pool of at most {min(shape[1:])}",
                where="model.pool",
            )
        inputs = shape[0] * (shape[1] // self.pool) * (shape[2] // self.pool)
        return nn.Sequential(Normalise(), nn.AvgPool2d(self.pool), nn.Flatten(), nn.Linear(inputs, classes))
