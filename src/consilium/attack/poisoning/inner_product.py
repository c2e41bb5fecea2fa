"""Inner product manipulation (IPM): all corrupted sites send the honest mean the other way.

    delta' = -scale mu        mu: mean of the honest updates as the server weighs them

A small ``scale`` stays within what honest updates differ by; above (n - m) / m for m of n sites the mean itself turns.

Source: Xie et al. 2019, Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation, arXiv
1903.03936
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from consilium.core.attack import Corruption
from consilium.core.collusion import AggregateView
from consilium.core.entry import check
from consilium.core.threat import RoundView, ThreatModel, require
from consilium.core.update import Payload, Update

from ._forged import with_delta

__all__ = ["InnerProduct"]


@dataclass(frozen=True)
class InnerProduct(Corruption):
    """Sends the negative of the mean of the honest updates, times ``scale``."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "white-box", "poisoning")
    nist: ClassVar[str | None] = "NISTAML.011"
    needs: ClassVar[type[RoundView]] = AggregateView

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    scale: float = 0.5
    """How many times the honest mean the update goes the other way."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        check(self.sites >= 0, "sites", self.sites, "at least 0")
        check(self.scale > 0, "scale", self.scale, "a factor above 0")

    def forge(self, memory: Payload, updates: Sequence[Update], view: RoundView) -> tuple[Sequence[Update], Payload]:
        """The same for all; where no honest site sends anything, their own."""
        mean = require(view, AggregateView, self.kind()).mean
        return with_delta(updates, -self.scale * mean["delta"]) if "delta" in mean else updates, memory
