"""FLAME: the largest cluster by angle, clipped to the median length, with noise.

Source: Nguyen et al. 2022, arXiv 2101.02281, algorithm 1; the clustering: Campello et al. 2013, HDBSCAN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import HDBSCAN
from torch import Tensor

from consilium.core.random import Stream
from consilium.core.update import Payload, Update

from ._distances import cosines, inner_products
from ._payloads import DELTA, vectors, weighted_sum
from ._robust_rule import RobustRule

__all__ = ["FlameRule", "majority"]

_SAME = 1e-9
"""Cosine distances up to this are rounding: all updates point one way."""


def majority(distances: Tensor) -> list[int]:
    """The indices of the cluster that holds more than half of n points at cosine ``distances (n, n)``.

    Where no cluster does, the more than half that are nearest to the point with the least distance to so many.
    """
    n, most = len(distances), len(distances) // 2 + 1
    if n < 3 or float(distances.max()) <= _SAME:
        return list(range(n))
    clusters = HDBSCAN(min_cluster_size=most, min_samples=1, metric="precomputed", allow_single_cluster=True, copy=True)
    labels = clusters.fit_predict(np.asarray(distances))
    members = [i for i in range(n) if labels[i] >= 0]
    if len(members) >= most:
        return members
    reach = distances.sort(dim=1).values[:, most - 1]
    centre = int(reach.argsort(stable=True)[0])
    return sorted(distances[centre].argsort(stable=True)[:most].tolist())


@dataclass(frozen=True, eq=False)
class FlameRule(RobustRule):
    """The plain mean of the majority's clipped updates; ``noise`` times the median length is the noise's deviation."""

    noise: float = 0.0
    stream: Stream | None = None

    def combine(self, updates: Sequence[Update], byzantine: int, memory: Payload) -> tuple[Payload, Payload]:
        """Angles, lengths, clipping and noise are of the parameters' change; other parts are averaged."""
        gram = inner_products(vectors(updates)).cpu()
        distances = (1 - cosines(gram)).clamp(min=0).fill_diagonal_(0)
        members = majority(distances)
        lengths = gram.diagonal().sqrt()
        bound = _median(lengths)
        factors = (bound / lengths.clamp(min=bound)).nan_to_num(1.0)[members] / len(members)
        admitted, shares = (
            [updates[i] for i in members],
            torch.full((len(members),), 1 / len(members), dtype=torch.float64),
        )
        payload = {name: weighted_sum(vectors(admitted, name), shares) for name in updates[0].payload}
        merged = weighted_sum(vectors(admitted), factors)
        return {**payload, DELTA: self._noised(merged, bound, updates[0].round)}, memory

    def _noised(self, delta: Tensor, bound: float, number: int) -> Tensor:
        if self.stream is None or not self.noise * bound > 0:
            return delta
        return self.stream.child("round", number).noised(delta, self.noise * bound)


def _median(lengths: Tensor) -> float:
    ordered, n = lengths.sort().values, len(lengths)
    return float(ordered[(n - 1) // 2] / 2 + ordered[n // 2] / 2)
