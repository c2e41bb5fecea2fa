"""Multi-Krum: the plain mean of the updates with the nearest neighbours.

    score_i = sum of ||x_i - x_j||^2 over the n - f - 2 nearest others j;        the m lowest scores are averaged

Distances are over the parameters' change, the selection applies to all that was sent.  Weights are ignored.  It needs
n >= 2 f + 3 updates a round.  On unlike data it leaves out honest sites that differ from the rest.  Reads each update
(LAWS 2).

Source: Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent, arXiv 1703.02757
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.merge import Aggregator, Cohort

from ._fewest_updates import FewestUpdates, check_byzantine
from ._krum_scores import KrumRule

__all__ = ["MultiKrum"]

_FEWEST = FewestUpdates(2, 3)


@dataclass(frozen=True)
class MultiKrum(MergeDefence):
    """Averages the updates that are nearest to most others; every site counts once, its weight is ignored."""

    byzantine: int = 1
    """Sites f of a round that may send anything; a round needs 2 f + 3."""
    selected: int | None = None
    """How many updates m are averaged; left out: all but f."""

    def __post_init__(self) -> None:
        check_byzantine(self.byzantine)
        check(self.selected is None or self.selected >= 1, "selected", self.selected, "a number of updates, 1 or more")

    def check_cohort(self, cohort: Cohort) -> None:
        """Refuse fewer than 2 f + 3 updates a round, and more selected ones than n - f.

        Raises Refused: f of those that are selected could be anything.
        """
        _FEWEST.check(self.kind(), self.byzantine, cohort)
        most = int(cohort.expected) - self.byzantine
        if self.selected is not None and self.selected > most:
            raise Refused(
                f"{self.kind()} with selected = {self.selected} averages more than the n - f = {most} updates of "
                "a round that are not corrupted",
                remedy=f"use selected = {most} or less, or leave it out",
            )

    def merge(self) -> Aggregator:
        """The mean of those selected in each round."""
        return KrumRule(self.byzantine, _FEWEST.of(self.byzantine), selected=self.selected)
