"""Geometric median (RFA): the point of the least weighted sum of distances to the updates.

    z = argmin sum_k w_k ||z - x_k||,       smoothed:  sum_k w_k (z - x_k) / max(nu, ||z - x_k||) = 0

Found by Weiszfeld's iteration to that fixed point.  Weighted by the sites' weights (their examples, with `weights =
"records"`): sites with less than half of the total weight cannot move it without bound, so a site that declares many
records counts for more; `max-share` bounds that.  Every part of an update (buffers, control variates) has a median of
its own.  Reads each update (LAWS 2).

Source: Pillutla et al. 2022, Robust Aggregation for Federated Learning, arXiv 1912.13445
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.entry import check
from consilium.core.merge import Aggregator, Cohort

from ._weiszfeld import GeometricMedianRule

__all__ = ["GeometricMedian"]


@dataclass(frozen=True)
class GeometricMedian(MergeDefence):
    """Merges to the point of the least sum of distances to the updates, weighted by the sites' weights."""

    smoothing: float = 1e-6
    """Distance nu below which an update pulls no harder: a hair above 0, as the pull is undefined there."""
    tolerance: float = 1e-6
    """Length of the weighted sum of unit vectors at which the iteration ends; 0 at the exact median."""
    iterations: int = 1000
    """Steps after which the iteration ends at the latest."""

    def __post_init__(self) -> None:
        check(0 < self.smoothing <= 1, "smoothing", self.smoothing, "a distance above 0, at most 1, such as 1e-6")
        check(0 < self.tolerance < 1, "tolerance", self.tolerance, "a length above 0, below 1, such as 1e-6")
        check(1 <= self.iterations <= 10**6, "iterations", self.iterations, "a number of steps, 1 to 1,000,000")

    def weakness(self, cohort: Cohort) -> str:
        """Of one or two updates of equal weight every point between them is a median."""
        size = f"{cohort.expected:.3g} updates a round"
        return f"the geometric median of {size} withstands nobody" if cohort.expected < 3 else ""

    def merge(self) -> Aggregator:
        """Weiszfeld's iteration to its fixed point."""
        return GeometricMedianRule(smoothing=self.smoothing, tolerance=self.tolerance, iterations=self.iterations)
