"""Robust learning rate (RLR): each coordinate where too few sites agree on the sign is stepped backwards.

    out_j = + mean_j   where |sum_k sign(x_kj)| >= theta n,     - mean_j   elsewhere

A backdoor needs coordinates that only its sites move in its direction; the step backwards takes it out again.  The mean
is weighted by the sites' weights (their examples, with `weights = "records"`), the vote is not.  The vote is on the
parameters' change; other parts (buffers, control variates) are averaged.  Honest sites with unlike labels disagree in
many coordinates, and learn slower.  It bounds no length: name `norm-bound` before it.  Updates are added as they come,
none is kept.  Reads each update (LAWS 2).

Source: Ozdayi et al. 2021, Defending against Backdoors with Robust Learning Rate, arXiv 2007.03767
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.entry import check
from consilium.core.merge import Aggregator, Cohort

from ._sign_vote import SignVote

__all__ = ["RobustLearningRate"]


@dataclass(frozen=True)
class RobustLearningRate(MergeDefence):
    """Takes the step backwards in coordinates where too few sites agree; the mean is weighted, the vote is not."""

    threshold: float = 0.4
    """Share of the updates by which those of one sign must outnumber the others."""

    def __post_init__(self) -> None:
        check(0 < self.threshold <= 1, "threshold", self.threshold, "a share above 0, at most 1, such as 0.4")

    def weakness(self, cohort: Cohort) -> str:
        """Where any odd vote is a majority, no coordinate is ever turned."""
        n = cohort.expected
        enough = n % 2 == 1 and self.threshold * n <= 1
        return f"of {n:.3g} updates any majority is agreement, so no coordinate is turned" if enough else ""

    def merge(self) -> Aggregator:
        """The weighted mean and the vote."""
        return SignVote(self.threshold)
