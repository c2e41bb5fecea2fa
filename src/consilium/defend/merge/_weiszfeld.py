"""The geometric median by Weiszfeld's iteration, on inner products alone.

Every iterate is a weighted mean of the updates, z = sum_k s_k x_k, and all that a step needs of it are its distances to
them, which follow from the shares s and the inner products of the updates.  So a step costs n^2, whatever the model.

Source: Pillutla et al. 2022, Robust Aggregation for Federated Learning, arXiv 1912.13445, algorithm 2; Weiszfeld 1937;
the test of an update that is the median itself: Vardi and Zhang 2000, doi 10.1073/pnas.97.4.1423.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.update import Payload, Update

from ._distances import inner_products, squared_distances
from ._payloads import vectors, weighted_sum
from ._robust_rule import RobustRule

__all__ = ["GeometricMedianRule", "central", "geometric_median_shares"]


def geometric_median_shares(
    products: Tensor, weights: Tensor, smoothing: float, tolerance: float, iterations: int
) -> Tensor:
    """Shares ``(n,)``, of sum 1, whose mean is the smoothed geometric median.

    ``products (n, n)`` are the inner products of the updates less the :func:`central` one.  It ends where
    ||sum_k w_k (z - x_k) / max(nu, ||z - x_k||)|| <= ``tolerance``, of ``weights`` with sum 1, after ``iterations``
    steps at the latest.
    """
    weights = weights / weights.sum()
    shares = _start(products, weights, smoothing)
    for _ in range(iterations):
        along = products @ shares
        squares = (shares @ along - 2 * along + products.diagonal()).clamp(min=0)
        pulls = weights / squares.sqrt().clamp(min=smoothing)
        total = pulls.sum()
        residual = total * shares - pulls
        if float((residual @ products @ residual).clamp(min=0).sqrt()) <= tolerance:
            break
        shares = pulls / total
    return shares


def central(distances: Tensor, weights: Tensor) -> int:
    """The index of the update with the least weighted sum of distances, whose squares are ``distances (n, n)``."""
    return int((distances.sqrt() @ weights).argsort(stable=True)[0])


def _start(products: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """The central update where it is the median, as an iteration would come near it ever more slowly; else the mean."""
    lengths = products.diagonal().clamp(min=0).sqrt()
    here = lengths <= smoothing
    pulls = torch.where(here, 0.0, weights / lengths.clamp(min=smoothing))
    if float((pulls @ products @ pulls).clamp(min=0).sqrt()) > float(weights[here].sum()):
        return weights
    return torch.where(here, weights, 0.0) / weights[here].sum()


@dataclass(frozen=True, eq=False)
class GeometricMedianRule(RobustRule):
    """The smoothed geometric median of each part of the payload, weighted by the updates' weights."""

    smoothing: float = 1e-6
    tolerance: float = 1e-6
    iterations: int = 1000

    def combine(self, updates: Sequence[Update], byzantine: int, memory: Payload) -> tuple[Payload, Payload]:
        """Each part has a median of its own: one weight for all would let a far part in by a near one."""
        weights = torch.tensor([update.weight for update in updates], dtype=torch.float64)
        weights = weights if bool(weights.sum() > 0) else torch.ones_like(weights)
        return {name: self._median(vectors(updates, name), weights) for name in updates[0].payload}, memory

    def _median(self, tensors: Sequence[Tensor], weights: Tensor) -> Tensor:
        origin = tensors[central(squared_distances(inner_products(tensors)).cpu(), weights)]
        products = inner_products(tensors, origin).cpu()
        shares = geometric_median_shares(products, weights, self.smoothing, self.tolerance, self.iterations)
        return weighted_sum(tensors, shares)
