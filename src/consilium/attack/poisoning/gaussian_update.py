"""Gaussian update: the corrupted site sends noise.

    delta' ~ N(0, deviation^2)        in every coordinate, anew for every site and round

Source: Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent, NeurIPS
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from consilium.core.attack import Corruption
from consilium.core.collusion import ColludingView
from consilium.core.entry import check
from consilium.core.threat import RoundView, ThreatModel, require
from consilium.core.update import Payload, Update

__all__ = ["GaussianUpdate"]


@dataclass(frozen=True)
class GaussianUpdate(Corruption):
    """Sends Gaussian noise in the place of an update."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "black-box", "poisoning")
    nist: ClassVar[str | None] = "NISTAML.011"
    needs: ClassVar[type[RoundView]] = ColludingView

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    deviation: float = 1.0
    """Standard deviation of each coordinate."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        check(self.sites >= 0, "sites", self.sites, "at least 0")
        check(0 < self.deviation < float("inf"), "deviation", self.deviation, "a number above 0")

    def forge(self, memory: Payload, updates: Sequence[Update], view: RoundView) -> tuple[Sequence[Update], Payload]:
        """Noise, drawn by site and round."""
        granted = require(view, ColludingView, self.kind())
        return [self._noise(update, granted) for update in updates], memory

    def _noise(self, update: Update, view: ColludingView) -> Update:
        zero = torch.zeros_like(update.payload["delta"])
        noise = view.stream.child("gaussian", update.site, view.round).noised(zero, self.deviation)
        return replace(update, payload={**update.payload, "delta": noise})
