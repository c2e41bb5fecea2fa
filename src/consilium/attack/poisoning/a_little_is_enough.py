"""A little is enough (ALIE): all corrupted sites send the honest mean, moved by z deviations in every coordinate.

    delta' = mu - z sigma,    z = Phi^-1((n - m - s) / (n - m)),    s = floor(n / 2 + 1) - m

with mean mu and deviation sigma of the n - m honest updates of the round, m of n sites corrupted.  That is the most
that still has s honest sites further out, so that a majority rule takes the forged updates for the middle.

Source: Baruch et al. 2019, A Little Is Enough: Circumventing Defenses For Distributed Learning, arXiv 1902.06156
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from consilium.core.attack import Corruption
from consilium.core.collusion import OmniscientView
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.threat import RoundView, ThreatModel, require
from consilium.core.update import Payload, Update

from ._forged import deltas, hidden_deviations, with_delta

__all__ = ["ALittleIsEnough"]


@dataclass(frozen=True)
class ALittleIsEnough(Corruption):
    """Sends the mean of the honest updates less ``z`` deviations, the most that a majority rule takes for honest."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "white-box", "poisoning")
    nist: ClassVar[str | None] = "NISTAML.011"
    needs: ClassVar[type[RoundView]] = OmniscientView

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    z: float | None = None
    """Deviations from the honest mean; left out: by the formula above."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        check(self.sites >= 0, "sites", self.sites, "at least 0")
        check(self.z is None or (self.z != 0 and math.isfinite(self.z)), "z", self.z, "a number other than 0")

    def check_sites(self, corrupted: int, sites: int) -> None:
        """Refuse so few corrupted sites that the formula gives none of the room they need.

        Raises Refused: its z is not above 0, or has no bound.
        """
        z = hidden_deviations(corrupted, sites)
        if self.z is None and not 0 < z < math.inf:
            raise Refused(
                f"{corrupted} corrupted of {sites} sites give z = {z:.3g} by the formula",
                remedy="give z, or corrupt more sites, up to half of them",
                where="z",
            )

    def forge(self, memory: Payload, updates: Sequence[Update], view: RoundView) -> tuple[Sequence[Update], Payload]:
        """The same for all; with fewer than two honest updates to read, their own."""
        honest = deltas(require(view, OmniscientView, self.kind()).updates.values())
        if not updates or len(honest) < 2:
            return updates, memory
        z = self.z
        if z is None:  # of a round in which few take part it may have no value: then the mean is sent
            z = hidden_deviations(len(updates), len(updates) + len(honest))
            z = z if 0 < z < math.inf else 0.0
        return with_delta(updates, honest.mean(0) - z * honest.std(0)), memory
