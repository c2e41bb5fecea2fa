"""Bulyan: Krum chooses n - 2 f updates one after the other, and each coordinate is averaged around its median.

Source: El Mhamdi et al. 2018, arXiv 1802.07927, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from consilium.core.update import Payload, Update

from ._coordinate_trim import mean_around_median
from ._distances import inner_products, squared_distances
from ._krum_scores import krum_scores
from ._payloads import by_coordinate, vectors
from ._robust_rule import RobustRule

__all__ = ["BulyanRule", "chosen_one_by_one"]


def chosen_one_by_one(distances: Tensor, byzantine: int, count: int) -> list[int]:
    """The winners of ``count`` rounds of Krum on squared ``distances (n, n)``, each without the winners before it."""
    rest, winners = list(range(len(distances))), list[int]()
    while len(winners) < count:
        index = torch.tensor(rest)
        scores = krum_scores(distances[index][:, index], byzantine)
        winners.append(rest.pop(int(scores.argsort(stable=True)[0])))
    return winners


@dataclass(frozen=True, eq=False)
class BulyanRule(RobustRule):
    """theta = n - 2 f updates by Krum, then of each coordinate the theta - 2 f values nearest to the median."""

    def combine(self, updates: Sequence[Update], byzantine: int, memory: Payload) -> tuple[Payload, Payload]:
        """The choice is by the parameters' change; every part of the payload is averaged among those chosen."""
        theta = len(updates) - 2 * byzantine
        distances = squared_distances(inner_products(vectors(updates))).cpu()
        winners = [updates[i] for i in sorted(chosen_one_by_one(distances, byzantine, theta))]
        rule = partial(mean_around_median, theta - 2 * byzantine)
        return {name: by_coordinate(winners, name, rule) for name in updates[0].payload}, memory
