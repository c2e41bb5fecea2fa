"""Even sites: units are shuffled and dealt in turn, so every site is a sample of the same distribution.

The baseline against which every skew is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.data.partition import Partition

__all__ = ["IID"]


@dataclass(frozen=True)
class IID(Partition):
    """Shuffled and dealt in turn: sites alike, their sizes within one unit of each other.

    Source: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks, section 3 (IID)
    """

    def assign(self, y: Tensor, keys: Tensor | None, sites: int, generator: torch.Generator) -> Tensor:
        """The site ``(u,)`` of each unit."""
        order = torch.randperm(len(y), generator=generator)
        site = torch.empty(len(y), dtype=torch.long)
        site[order] = torch.arange(len(y)) % sites
        return site
