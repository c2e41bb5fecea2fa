"""Real sites: the source names the origin of each unit (a hospital, a scanner, a state).

With fewer sites than keys, whole keys are put together: the largest key goes to the site that holds least so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.data.partition import Partition

__all__ = ["ByKey"]


@dataclass(frozen=True)
class ByKey(Partition):
    """One site per natural key of the source; with fewer sites, whole keys are put together, largest first.

    A unit that its source names under two keys belongs to the one with most of its records.

    Source: Graham 1969, Bounds on Multiprocessing Timing Anomalies (largest first)
    """

    natural: ClassVar[bool] = True

    def assign(self, y: Tensor, keys: Tensor | None, sites: int, generator: torch.Generator) -> Tensor:
        """The site ``(u,)`` of each unit; refused without keys, or with fewer keys than sites.

        Raises Refused: no keys, or fewer keys than sites.
        """
        if keys is None:
            raise Refused(
                "by-key needs natural sites, and this source names none",
                remedy="use a source with site keys (table: site; npz: keys) or another partition",
                where="partition",
            )
        names, key, counts = torch.unique(keys, return_inverse=True, return_counts=True)
        if len(names) < sites:
            raise Refused(
                f"the study asks for {sites} sites, and the training pool has patients of {len(names)}",
                remedy=f"use {len(names)} sites or fewer",
                where="sites",
            )
        return _balanced(counts.tolist(), sites)[key]


def _balanced(counts: list[int], sites: int) -> Tensor:
    """The site of each key; with as many sites as keys, key k is site k."""
    if len(counts) == sites:
        return torch.arange(sites)
    load = [0] * sites
    home = torch.empty(len(counts), dtype=torch.long)
    for key in sorted(range(len(counts)), key=lambda k: (-counts[k], k)):
        least = min(range(sites), key=lambda s: (load[s], s))
        home[key] = least
        load[least] += counts[key]
    return home
