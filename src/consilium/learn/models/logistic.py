"""Multinomial logistic regression: one linear layer on the flattened input.

Source: Cox 1958, J. R. Stat. Soc. B 20:215.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from consilium.learn.architecture import Architecture, Normalise

__all__ = ["Logistic"]


@dataclass(frozen=True)
class Logistic(Architecture):
    """A single linear layer."""

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Linear(prod(shape), classes)."""
        return nn.Sequential(Normalise(), nn.Flatten(), nn.Linear(math.prod(shape), classes))
