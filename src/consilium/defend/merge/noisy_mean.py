"""Noisy mean: the weighted mean and Gaussian noise, which drowns what little a bounded update can plant.

    out = sum_k w_k x_k / sum w + N(0, sigma^2)

Behind `norm-bound` it is the weak differential privacy of Sun et al.: `[ { kind = "norm-bound", bound = 1.0 },
"noisy-mean" ]`.  It claims no privacy: the noise fits no sensitivity, `dp-fed-avg` does that.  Without a bound it
withstands nobody.  The noise is on the parameters' change.  Weighted by the sites' weights.  Reads the sum alone, so
it may stand behind secure aggregation; updates are added as they come.

Source: Sun et al. 2019, Can You Really Backdoor Federated Learning?, arXiv 1911.07963
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.entry import check
from consilium.core.merge import Aggregator, Cohort
from consilium.core.random import Stream
from consilium.federate.round.weighted_mean import WeightedMean

from ._noised_mean import NoisedMean

__all__ = ["NoisyMean"]


@dataclass(frozen=True)
class NoisyMean(MergeDefence):
    """Adds Gaussian noise to the weighted mean; meant to stand behind a bound on every update."""

    deviation: float = 0.001
    """Deviation sigma of the noise in every coordinate of the merged change."""

    def __post_init__(self) -> None:
        check(0 < self.deviation < float("inf"), "deviation", self.deviation, "a positive number, such as 0.001")

    def merge(self) -> Aggregator:
        """The weighted mean without noise, whose draws belong to a training."""
        return WeightedMean()

    def merge_for(self, cohort: Cohort, stream: Stream) -> Aggregator:
        """The noisy mean."""
        return NoisedMean(self.deviation, stream)
