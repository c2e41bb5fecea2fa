"""Nearest-neighbour mixing (NNM): each update becomes the mean of the n - f nearest to it, before a merge rule.

    x_i <- mean of the n - f updates nearest to x_i, itself among them

Honest updates of unlike sites become alike, so that the rule behind it need not take their difference for an attack.
Name it before a rule: `[ "nearest-neighbour-mixing", "krum" ]`; alone it stands before the mean, and withstands
little.  Distances are over the parameters' change; all parts are mixed alike.  Weights are ignored.  It needs
n >= 2 f + 1 updates a round and holds twice as many.  Reads each update (LAWS 2).

Source: Allouah et al. 2023, Fixing by Mixing: A Recipe for Optimal Byzantine ML under Heterogeneity, arXiv 2302.01772
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import PreAggregation
from consilium.core.merge import Aggregator, Cohort
from consilium.core.random import Stream
from consilium.federate.round.weighted_mean import WeightedMean

from ._fewest_updates import FewestUpdates, check_byzantine
from ._nearest_mixing import NearestMixing

__all__ = ["NearestNeighbourMixing"]

_FEWEST = FewestUpdates(2, 1)


@dataclass(frozen=True)
class NearestNeighbourMixing(PreAggregation):
    """Replaces each update by the mean of those nearest to it, before another rule; weights are ignored."""

    byzantine: int = 1
    """Sites f of a round that may send anything; each update is mixed with the n - f nearest to it."""

    def __post_init__(self) -> None:
        check_byzantine(self.byzantine)

    def check_cohort(self, cohort: Cohort) -> None:
        """Refuse fewer than 2 f + 1 updates a round."""
        _FEWEST.check(self.kind(), self.byzantine, cohort)

    def before(self, rule: Aggregator, stream: Stream) -> Aggregator:
        """``rule`` on mixed updates."""
        return NearestMixing(rule, max(rule.least, _FEWEST.of(self.byzantine)), byzantine=self.byzantine)

    def merge(self) -> Aggregator:
        """The mean of mixed updates."""
        return self.before(WeightedMean(), Stream(0))
