"""Pathological label skew: units sorted by label are cut into equal shards, and every site is dealt a few of them.

With two shards a site, most sites have two labels only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.data.partition import Partition

__all__ = ["Shards"]


@dataclass(frozen=True)
class Shards(Partition):
    """Sorted by label and cut into equal shards, ``per-site`` of them dealt to each site.

    Source: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks, section 3 (pathological non-IID)
    """

    per_site: int = 2
    """Shards of sorted labels that each site gets: about so many classes."""

    def __post_init__(self) -> None:
        check(self.per_site >= 1, "per-site", self.per_site, "1 or more")

    def assign(self, y: Tensor, keys: Tensor | None, sites: int, generator: torch.Generator) -> Tensor:
        """The site ``(u,)`` of each unit.

        Raises Refused: fewer units than shards.
        """
        shards = sites * self.per_site
        if len(y) < shards:
            raise Refused(
                f"{len(y)} units cannot be cut into {shards} shards",
                remedy="use fewer sites or fewer shards per site",
                where="per-site",
            )
        shuffled = torch.randperm(len(y), generator=generator)
        by_label = shuffled[y[shuffled].argsort(stable=True)]
        owners = torch.randperm(shards, generator=generator) % sites
        site = torch.empty(len(y), dtype=torch.long)
        for shard, part in zip(owners.tolist(), by_label.tensor_split(shards), strict=True):
            site[part] = shard
        return site
