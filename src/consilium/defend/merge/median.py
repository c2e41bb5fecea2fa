"""Median: replaces the weighted mean by the median of each coordinate, which a minority of sites cannot move far.

The sites' weights are ignored, so a site gains nothing by declaring more records; on sites of unequal size the result
differs from the weighted mean even when all are honest.  Reads each update (LAWS 2).

Source: Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, arXiv 1803.01498
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.merge import Aggregator, Cohort

from ._coordinate_median import CoordinateMedian

__all__ = ["Median"]


@dataclass(frozen=True)
class Median(MergeDefence):
    """Merges by the median of each coordinate; every site counts once, its weight is ignored."""

    def weakness(self, cohort: Cohort) -> str:
        """Of one or two updates the median is the mean."""
        size = f"{cohort.expected:.3g} updates a round"
        return f"the median of {size} is their mean, so it withstands nobody" if cohort.expected < 3 else ""

    def merge(self) -> Aggregator:
        """The coordinate-wise median."""
        return CoordinateMedian()
