"""FoolsGold's weights: the more alike the histories of two sites, the less either counts.

Source: Fung et al. 2020, arXiv 1808.04866, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.update import Payload, Update

from ._distances import cosines, inner_products
from ._payloads import DELTA, combined
from ._robust_rule import RobustRule

__all__ = ["FoolsGoldRule", "dissimilarity_weights"]

_HISTORY = "foolsgold-history "
"""Before a site's name: the sum of its updates so far, as long as the model's parameters."""
_FULL = 0.99
"""What a weight of 1 is taken for, whose logit would be infinite."""


def dissimilarity_weights(similar: Tensor) -> Tensor:
    """Weights ``(n,)`` in [0, 1] of cosines ``similar (n, n)``; zeros where all are alike."""
    n = len(similar)
    if n == 1:
        return torch.ones_like(similar[0])
    others = similar.clone().fill_diagonal_(0)  # as the paper's code: no site is further than a right angle
    most = others.max(dim=1).values
    pardoned = torch.where(most[:, None] < most[None, :], others * most[:, None] / most[None, :], others)
    weights = (1 - pardoned.max(dim=1).values).clamp(0, 1)
    if not bool(weights.max() > 0):
        return torch.zeros_like(weights)
    weights = (weights / weights.max()).clamp(max=_FULL)
    return (torch.logit(weights) + 0.5).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class FoolsGoldRule(RobustRule):
    """The mean by those weights; it remembers the sum of each site's updates."""

    follows_sites: bool = True

    def withstood(self, updates: int) -> int | None:
        """No number: it weighs sites that act alike, however many they are."""
        return None

    def combine(self, updates: Sequence[Update], byzantine: int, memory: Payload) -> tuple[Payload, Payload]:
        """Where all histories are alike nobody can be told from an attacker, and the mean is plain."""
        past = {update.site: memory.get(_HISTORY + update.site) for update in updates}
        sums = [u.payload[DELTA] if (before := past[u.site]) is None else before + u.payload[DELTA] for u in updates]
        factors = dissimilarity_weights(cosines(inner_products(sums)).cpu())
        factors = factors if bool(factors.sum() > 0) else torch.ones_like(factors)
        after = {_HISTORY + update.site: total for update, total in zip(updates, sums, strict=True)}
        return combined(updates, factors / factors.sum()), {**memory, **after}
