"""FoolsGold: sites whose updates point the same way round after round count less, as puppets of one attacker do.

    h_i = sum of site i's updates so far,  v_i = max_j cos(h_i, h_j), pardoned,  alpha_i = logit((1 - v_i) / max) + 1/2
    the aggregate is sum alpha_i x_i / sum alpha_i,         alpha cut to [0, 1]

It needs no bound on how many are corrupted, but unlike honest sites: where those agree (even shares of the data) they
are taken for puppets themselves, and one attacker alone is never found.  Histories are of the parameters' change, the
weights apply to all that was sent; the paper's sum is divided by the weights, as sites send means.  Weights by records
are ignored.  It holds a vector as long as the model for every site, and so does a checkpoint.  Reads each update
(LAWS 2).

Source: Fung et al. 2020, The Limitations of Federated Learning in Sybil Settings, arXiv 1808.04866
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.merge import Aggregator, Cohort

from ._contribution_similarity import FoolsGoldRule

__all__ = ["FoolsGold"]


@dataclass(frozen=True)
class FoolsGold(MergeDefence):
    """Counts sites less the more alike their updates are over the rounds; their weights are ignored."""

    def weakness(self, cohort: Cohort) -> str:
        """Of two sites both are alike."""
        size = f"{cohort.expected:.3g} updates a round"
        return f"of {size} none can be told from the others, so it withstands nobody" if cohort.expected < 3 else ""

    def merge(self) -> Aggregator:
        """The mean by dissimilarity of histories."""
        return FoolsGoldRule()
