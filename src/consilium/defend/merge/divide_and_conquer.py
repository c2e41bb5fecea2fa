"""Divide and conquer (DnC): leaves out the updates that stand out in the largest direction of variation.

    on b random coordinates: s_i = <x_i - mean, v>^2, v the first principal direction; leave out the c f largest
    repeated on other coordinates; the mean of the updates that are never left out

It finds updates that agree with each other against the rest however near they are, where distances do not.  Coordinates
are of the parameters' change, the selection applies to all that was sent.  Weights are ignored.  It needs n >= 2 f + 1
updates a round, and more than are left out in all iterations.  Reads each update (LAWS 2).

Source: Shejwalkar and Houmansadr 2021, Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for
Federated Learning, NDSS, doi 10.14722/ndss.2021.24498
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.merge import Aggregator, Cohort
from consilium.core.random import Stream

from ._fewest_updates import FewestUpdates, check_byzantine
from ._spectral_outliers import SpectralRule

__all__ = ["DivideAndConquer"]

_FEWEST = FewestUpdates(2, 1)


@dataclass(frozen=True)
class DivideAndConquer(MergeDefence):
    """Averages the updates that do not stand out in the main direction of variation; weights are ignored."""

    byzantine: int = 1
    """Sites f of a round that may send anything; a round needs 2 f + 1."""
    iterations: int = 1
    """Times that outliers are left out, on other coordinates each time."""
    coordinates: int = 10_000
    """Coordinates b that are drawn each time."""
    factor: float = 1.0
    """Share c of f that is left out each time: 1 leaves out f."""

    def __post_init__(self) -> None:
        check_byzantine(self.byzantine)
        check(1 <= self.iterations <= 1000, "iterations", self.iterations, "a number of times, 1 to 1000")
        check(self.coordinates >= 1, "coordinates", self.coordinates, "a number of coordinates, 1 or more")
        check(0 < self.factor < float("inf"), "factor", self.factor, "a number above 0, such as 1")

    def check_cohort(self, cohort: Cohort) -> None:
        """Refuse fewer than 2 f + 1 updates a round, or as few as may be left out.

        Raises Refused: nothing might be left.
        """
        _FEWEST.check(self.kind(), self.byzantine, cohort)
        n, out = int(cohort.expected), self._left_out()
        if out >= n:
            raise Refused(
                f"{self.kind()} may leave out {out} updates ({self.iterations} times factor x byzantine = "
                f"{math.ceil(self.factor * self.byzantine)}), and {n} are expected in a round",
                remedy=f"leave out fewer than {n} in all",
            )

    def _left_out(self) -> int:
        return self.iterations * math.ceil(self.factor * self.byzantine)

    def merge(self) -> Aggregator:
        """The mean of the others, on the same coordinates for every training."""
        return self._rule(Stream(0))

    def merge_for(self, cohort: Cohort, stream: Stream) -> Aggregator:
        """The mean of the others; the coordinates are drawn from ``stream``."""
        return self._rule(stream)

    def _rule(self, stream: Stream) -> Aggregator:
        least = max(_FEWEST.of(self.byzantine), self._left_out() + 1)
        return SpectralRule(
            self.byzantine,
            least,
            iterations=self.iterations,
            coordinates=self.coordinates,
            factor=self.factor,
            stream=stream,
        )
