"""A multi-layer perceptron on the flattened input.

Source: Rumelhart, Hinton & Williams 1986, Nature 323:533.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from consilium.core.entry import check
from consilium.learn.architecture import Architecture, Normalise

__all__ = ["MLP"]


@dataclass(frozen=True)
class MLP(Architecture):
    """Fully connected layers with ReLU between them."""

    hidden: int = 64
    """Units of a hidden layer."""
    layers: int = 1
    """Hidden layers."""

    def __post_init__(self) -> None:
        check(1 <= self.hidden <= 65536, "hidden", self.hidden, "1 to 65536 units")
        check(1 <= self.layers <= 64, "layers", self.layers, "1 to 64 hidden layers")

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """``layers`` hidden layers of ``hidden`` units."""
        widths = [math.prod(shape)] + [self.hidden] * self.layers
        stack: list[nn.Module] = [Normalise(), nn.Flatten()]
        for before, after in pairwise(widths):
            stack += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*stack, nn.Linear(self.hidden, classes))
