"""Krum: the merged update is one of the updates, that with the nearest neighbours.

    score_i = sum of ||x_i - x_j||^2 over the n - f - 2 nearest others j;        the lowest score wins

Distances are over the parameters' change; what else the winner sent (buffers, control variates) comes with it.  Weights
are ignored.  It needs n >= 2 f + 3 updates a round.  On unlike data the one site is all that a round learns from, and
honest sites that differ from the rest are never it.  Reads each update (LAWS 2).

Source: Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent, arXiv 1703.02757
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.merge import Aggregator, Cohort

from ._fewest_updates import FewestUpdates, check_byzantine
from ._krum_scores import KrumRule

__all__ = ["Krum"]

_FEWEST = FewestUpdates(2, 3)


@dataclass(frozen=True)
class Krum(MergeDefence):
    """Merges to the one update that is nearest to most others; every site counts once, its weight is ignored."""

    byzantine: int = 1
    """Sites f of a round that may send anything; a round needs 2 f + 3."""

    def __post_init__(self) -> None:
        check_byzantine(self.byzantine)

    def check_cohort(self, cohort: Cohort) -> None:
        """Refuse fewer than 2 f + 3 updates a round."""
        _FEWEST.check(self.kind(), self.byzantine, cohort)

    def merge(self) -> Aggregator:
        """The winner of each round."""
        return KrumRule(self.byzantine, _FEWEST.of(self.byzantine))
