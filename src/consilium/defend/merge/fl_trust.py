"""FLTrust: the server trains on public records too, and trusts a site by the angle between their updates.

    TS_i = max(0, cos(x_i, x_0)),       out = sum TS_i (||x_0|| / ||x_i||) x_i / sum TS_i,      x_0 of the server

No bound on the number of corrupted sites is needed: what points away from the server's update counts nothing, what is
long is cut.  It is as good as the public slice is like the sites' data.  x_0 is the local work of the study on that
slice, undefended.  Angles and lengths are of the parameters' change; other parts (buffers, control variates) are
averaged by trust.  Where no site is trusted, the server's own update is the aggregate.  Weights are ignored.  Updates
are added as they come, none is kept.  Reads each update (LAWS 2).

Source: Cao et al. 2021, FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping, arXiv 2012.13995
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.core.defence import MergeDefence
from consilium.core.merge import Aggregator

from ._root_trust import RootTrust

__all__ = ["FLTrust"]


@dataclass(frozen=True)
class FLTrust(MergeDefence):
    """Counts each site by how its update agrees with one that the server makes of public records."""

    def fits_public(self) -> bool:
        """Always: the server trains on them in each round."""
        return True

    def merge(self) -> Aggregator:
        """The mean by trust; the round gives it the server's own update."""
        return RootTrust()
