"""Centred clipping: no update moves the aggregate further than a given length from that of the last round.

    v <- v + mean_k (x_k - v) min(1, tau / ||x_k - v||),        v = the last round's aggregate

With v = 0 it is the mean of clipped updates; with a centre, honest updates that agree from round to round are not
clipped, and an attacker who moves it a little in each round is held back.  The centre is carried in the merge's memory;
in the first round it is the median of each coordinate.  The clipping is of the parameters' change; other parts
(buffers, control variates) are merged by the median of each coordinate.  Weights are ignored.  Reads each update
(LAWS 2).

Source: Karimireddy et al. 2021, Learning from History for Byzantine Robust Optimization, arXiv 2012.10333
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.entry import check
from consilium.core.merge import Aggregator

from ._clipped_centre import CentredClippingRule

__all__ = ["CentredClipping"]


@dataclass(frozen=True)
class CentredClipping(MergeDefence):
    """Averages the updates' differences to the last round's aggregate, each clipped; weights are ignored."""

    clip: float = 1.0
    """Length tau to which each difference is cut: about the distance of honest updates from their mean."""
    iterations: int = 1
    """Times a round that the centre is moved and the differences to it are cut again."""

    def __post_init__(self) -> None:
        check(0 < self.clip < float("inf"), "clip", self.clip, "a positive number")
        check(1 <= self.iterations <= 1000, "iterations", self.iterations, "a number of steps, 1 to 1000")

    def merge(self) -> Aggregator:
        """The mean of clipped differences, from a centre that is remembered."""
        return CentredClippingRule(clip=self.clip, iterations=self.iterations)
