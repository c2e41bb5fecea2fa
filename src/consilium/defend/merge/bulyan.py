"""Bulyan: Krum chooses n - 2 f updates, then each coordinate is the mean of the values around their median.

    theta = n - 2 f updates, one Krum after the other without those chosen before
    out_j = mean of the theta - 2 f chosen values of coordinate j that are nearest to their median

Krum bounds an update's distance, not each coordinate: an attacker may hide a large change in one of a million.  The
second step bounds each.  Distances are over the parameters' change; all parts are averaged among the chosen.  Where
n - f - 2 neighbours are none, one is counted.  Weights are ignored.  It needs n >= 4 f + 3 updates a round.  Reads each
update (LAWS 2).

Source: El Mhamdi et al. 2018, The Hidden Vulnerability of Distributed Learning in Byzantium, arXiv 1802.07927
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.merge import Aggregator, Cohort

from ._bulyan_selection import BulyanRule
from ._fewest_updates import FewestUpdates, check_byzantine

__all__ = ["Bulyan"]

_FEWEST = FewestUpdates(4, 3)


@dataclass(frozen=True)
class Bulyan(MergeDefence):
    """Averages around the median of each coordinate, among updates that Krum chooses; weights are ignored."""

    byzantine: int = 1
    """Sites f of a round that may send anything; a round needs 4 f + 3."""

    def __post_init__(self) -> None:
        check_byzantine(self.byzantine)

    def check_cohort(self, cohort: Cohort) -> None:
        """Refuse fewer than 4 f + 3 updates a round."""
        _FEWEST.check(self.kind(), self.byzantine, cohort)

    def merge(self) -> Aggregator:
        """Krum's choice, averaged around the median."""
        return BulyanRule(self.byzantine, _FEWEST.of(self.byzantine))
