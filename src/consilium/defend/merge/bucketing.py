"""Bucketing: a merge rule sees the means of a few updates each, drawn at random in every round.

    shuffle the n updates, average every s of them: ceil(n / s) means, of which at most f hold a corrupted update

The means of unlike sites differ less than the sites do.  The rule behind it has fewer updates and as many bad ones, so
it needs s times the sites.  Name it before a rule: `[ { kind = "bucketing", size = 2 }, "krum" ]`; alone it stands
before the mean and does nothing.  A rule that remembers sites by name cannot stand behind it.  All parts are averaged
alike.  Weights are ignored.  Reads each update (LAWS 2).

Source: Karimireddy et al. 2022, Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing, arXiv 2006.09365
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from consilium.core.defence import PreAggregation
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.merge import Aggregator, Cohort
from consilium.core.random import Stream
from consilium.federate.round.weighted_mean import WeightedMean

from ._random_buckets import RandomBuckets

__all__ = ["Bucketing"]


@dataclass(frozen=True)
class Bucketing(PreAggregation):
    """Hands another rule the means of a few updates each, drawn anew in every round; weights are ignored."""

    size: int = 2
    """Updates s in a bucket; a round needs s times as many as the rule behind it."""

    def __post_init__(self) -> None:
        check(2 <= self.size <= 10**6, "size", self.size, "a number of updates, 2 or more")

    def check_cohort(self, cohort: Cohort) -> None:
        """Refuse buckets that are larger than a round.

        Raises Refused: all updates would be one mean.
        """
        n = int(cohort.expected)
        if self.size >= n:
            raise Refused(
                f"{self.kind()} with size = {self.size} makes one mean of the {n} updates that a round expects",
                remedy=f"use a size below {n}" if n > 2 else "leave it out",
            )

    def cohort_behind(self, cohort: Cohort) -> Cohort:
        """As many as there are buckets."""
        buckets = math.ceil(cohort.expected / self.size)
        return replace(cohort, population=buckets, rate=1.0, sampling="fixed")

    def before(self, rule: Aggregator, stream: Stream) -> Aggregator:
        """``rule`` on the buckets' means.

        Raises Refused: it follows sites by name, and a bucket has another name in each round.
        """
        if rule.follows_sites:
            reason = f"a rule that remembers each site cannot stand behind {self.kind()}, which mixes them anew"
            raise Refused(reason, remedy=f"leave out {self.kind()}")
        return RandomBuckets(rule, max(1, (rule.least - 1) * self.size + 1), size=self.size, stream=stream)

    def merge(self) -> Aggregator:
        """The mean of the buckets' means, weighted by their sizes: the plain mean."""
        return self.before(WeightedMean(), Stream(0))
