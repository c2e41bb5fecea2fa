"""Sign flip: the corrupted site sends its honest change the other way.

    delta' = -scale delta

Source: Li et al. 2019, RSA: Byzantine-Robust Stochastic Aggregation Methods, arXiv 1811.03761
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from consilium.core.attack import Corruption
from consilium.core.entry import check
from consilium.core.threat import RoundView, ThreatModel
from consilium.core.update import Payload, Update

__all__ = ["SignFlip"]


@dataclass(frozen=True)
class SignFlip(Corruption):
    """Sends the negative of what the site's own training changed, times ``scale``."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "black-box", "poisoning")
    nist: ClassVar[str | None] = "NISTAML.011"

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    scale: float = 1.0
    """How many times its own length the update goes the other way."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        check(self.sites >= 0, "sites", self.sites, "at least 0")
        check(self.scale > 0, "scale", self.scale, "a factor above 0")

    def forge(self, memory: Payload, updates: Sequence[Update], view: RoundView) -> tuple[Sequence[Update], Payload]:
        """Each update the other way."""
        payloads = [{**update.payload, "delta": -self.scale * update.payload["delta"]} for update in updates]
        return [replace(update, payload=payload) for update, payload in zip(updates, payloads, strict=True)], memory
