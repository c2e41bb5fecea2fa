"""FLAME: the updates of one direction, cut to the median length, and a little noise.

    cluster by angle (HDBSCAN, a cluster holds more than half);   S = median of all ||x_i||
    out = mean over the cluster of x_i min(1, S / ||x_i||) + N(0, (lambda S)^2)

Clusters filter what points elsewhere, clipping what is scaled up, noise what is left of a backdoor.  The cluster is the
core of the majority: where all are honest it still holds little more than half of the updates.  The noise makes no
claim of privacy.  Angles, lengths and noise are of the parameters' change; other parts (buffers, control variates) are
averaged over the cluster.  It assumes that more than half are honest and point one way, which sites with unlike labels
do not.  Weights are ignored.  Reads each update (LAWS 2).

Source: Nguyen et al. 2022, FLAME: Taming Backdoors in Federated Learning, arXiv 2101.02281
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.entry import check
from consilium.core.merge import Aggregator, Cohort
from consilium.core.random import Stream

from ._angle_clusters import FlameRule

__all__ = ["FLAME"]


@dataclass(frozen=True)
class FLAME(MergeDefence):
    """Averages the largest cluster by angle, clipped to the median length and noised; weights are ignored."""

    noise: float = 0.001
    """Deviation lambda of the noise, in units of the median length; 0 adds none."""

    def __post_init__(self) -> None:
        check(0 <= self.noise < float("inf"), "noise", self.noise, "a number, 0 or more, such as 0.001")

    def merge(self) -> Aggregator:
        """The same without noise, whose draws belong to a training."""
        return FlameRule()

    def merge_for(self, cohort: Cohort, stream: Stream) -> Aggregator:
        """The clipped and noised mean of the majority."""
        return FlameRule(noise=self.noise, stream=stream)

    def weakness(self, cohort: Cohort) -> str:
        """Of two updates no majority can be found."""
        size = f"{cohort.expected:.3g} updates a round"
        return f"{size} have no majority by angle, so it withstands nobody" if cohort.expected < 3 else ""
