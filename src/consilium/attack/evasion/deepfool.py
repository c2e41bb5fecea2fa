"""DeepFool: step by step to the nearest boundary of a linear model of the network.

    x <- x + (1 + overshoot) min_k |z_k - z_y| / |grad (z_k - z_y)|_q  along that gradient (l2) or its sign (linf)

It needs a handful of steps and gives small perturbations that lie just beyond the boundary: rounded to an image file's
levels half of them are lost, so ask for ``eight_bit`` where that matters.

Source: Moosavi-Dezfooli, Fawzi and Frossard 2016, DeepFool, arXiv 1511.04599
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.threat import ThreatModel
from consilium.learn.perturbation.ball import Norm
from consilium.learn.perturbation.nearest.boundary import Boundary
from consilium.learn.perturbation.nearest.deepfool import deepfool

from ._minimum_norm import MinimumNorm

__all__ = ["DeepFool"]


@dataclass(frozen=True)
class DeepFool(MinimumNorm):
    """Steps to the nearest boundary of the linearised model until the answer is wrong."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")

    radius: float = 0.5
    """Distance up to which a record counts as fooled, in the norm, in units of the inputs' range [0, 1]."""
    norm: Norm = "l2"
    """How distance is measured: the Euclidean length of all changes, or the largest of them."""
    steps: int = 50
    """Linear models that are followed, at most."""
    overshoot: float = 0.02
    """By which share of its length each step goes beyond the boundary."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.overshoot >= 0, "overshoot", self.overshoot, "a number of at least 0")

    def nearest(self, boundary: Boundary, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The first point of each walk that reaches the goal."""
        return deepfool(boundary, x, y, norm=self.norm, steps=self.steps, overshoot=self.overshoot)
