"""Carlini and Wagner: the smallest perturbation as one objective, with the constant that just lets the attack succeed.

    l2     |p - x|_2^2 + c max(0, k - gap(p)),  binary search for c
    linf   sum_j max(0, |p_j - x_j| - t) + c max(0, k - gap(p)),  t falls after each success, c doubles after a failure
    l0     the attack by length on fewer and fewer features, the least needed ones going first

gap(p) is the lead of the best wrong answer.  A record leaves a search as soon as its own objective has stopped to fall.

Source: Carlini and Wagner 2017, Towards Evaluating the Robustness of Neural Networks, arXiv 1608.04644
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from consilium.core.entry import check, check_used
from consilium.core.threat import ThreatModel
from consilium.learn.perturbation.nearest.boundary import Boundary
from consilium.learn.perturbation.nearest.carlini_wagner_l0 import CarliniWagnerL0
from consilium.learn.perturbation.nearest.carlini_wagner_l2 import CarliniWagnerL2
from consilium.learn.perturbation.nearest.carlini_wagner_linf import CarliniWagnerLinf

from ._minimum_norm import MinimumNorm

__all__ = ["CarliniWagner"]

_SPARSE = 10
"""Few features have to change much, which their squares alone would forbid."""


@dataclass(frozen=True)
class CarliniWagner(MinimumNorm):
    """Minimises the perturbation and the model's lead together, searching for the constant between them."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")

    radius: float = 0.5
    """Distance up to which a record counts as fooled, in the norm, in units of the inputs' range [0, 1]."""
    norm: Literal["l2", "linf", "l0"] = "l2"
    """How distance is measured: the Euclidean length, the largest change, or the number of changed features."""
    steps: int = 100
    """Steps of Adam for each constant, at most."""
    rate: float = 0.05
    """Step size of Adam."""
    constant: float = 1.0
    """Weight of the model's lead that is tried first; for l0 ten times that, alone."""
    searches: int = 5
    """Constants that are tried for each record, for l2."""
    patience: int = 10
    """Steps without a fall of its objective after which a record ends the search for this constant, for l2."""
    largest: float = 20.0
    """Constant at which a record is given up, for linf."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.rate > 0, "rate", self.rate, "a positive number")
        check(self.constant > 0, "constant", self.constant, "a positive number")
        check(self.searches >= 1, "searches", self.searches, "at least 1")
        check(self.patience >= 1, "patience", self.patience, "at least 1")
        check(self.norm != "linf" or self.largest > self.constant, "largest", self.largest, "a number above constant")
        for knob, norm in (("searches", "l2"), ("patience", "l2"), ("largest", "linf")):
            check_used(self, knob, self.norm == norm, f"norm = {self.norm!r}")

    def nearest(self, boundary: Boundary, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The nearest point of all constants that reaches the goal."""
        if self.norm == "l2":
            knobs = (self.searches, self.steps, self.rate, self.constant, self.patience)
            return CarliniWagnerL2(boundary, *knobs)(x, y)
        if self.norm == "linf":
            return CarliniWagnerLinf(boundary, self.steps, self.rate, self.constant, self.largest)(x, y)
        return CarliniWagnerL0(boundary, self.steps, self.rate, _SPARSE * self.constant)(x, y)
