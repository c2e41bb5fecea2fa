"""Trimmed mean: of each coordinate the f smallest and f largest values are cut off, the others averaged.

    out_j = mean of x_(f+1),j ... x_(n-f),j         in the order of coordinate j

All parts of an update (buffers, control variates) are trimmed alike.  Weights are ignored, so a site gains nothing by
declaring more records.  It needs n >= 2 f + 1 updates a round.  Reads each update (LAWS 2).

Source: Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, arXiv 1803.01498
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.merge import Aggregator, Cohort

from ._coordinate_trim import TrimmedMeanRule
from ._fewest_updates import FewestUpdates, check_byzantine

__all__ = ["TrimmedMean"]

_FEWEST = FewestUpdates(2, 1)


@dataclass(frozen=True)
class TrimmedMean(MergeDefence):
    """Averages each coordinate without its f smallest and f largest values; weights are ignored."""

    byzantine: int = 1
    """Sites f of a round that may send anything; a round needs 2 f + 1."""

    def __post_init__(self) -> None:
        check_byzantine(self.byzantine)

    def check_cohort(self, cohort: Cohort) -> None:
        """Refuse fewer than 2 f + 1 updates a round."""
        _FEWEST.check(self.kind(), self.byzantine, cohort)

    def merge(self) -> Aggregator:
        """The mean between the extremes."""
        return TrimmedMeanRule(self.byzantine, _FEWEST.of(self.byzantine))
