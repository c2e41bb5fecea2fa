"""Quantity skew: sites of one distribution and of very different sizes.

size_k ~ ratio_k   or, without ratios,   size_k ~ 1 / (k + 1)^exponent
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.entry import check, check_used
from consilium.core.errors import Refused
from consilium.data.partition import Partition

__all__ = ["Unbalanced"]


@dataclass(frozen=True)
class Unbalanced(Partition):
    """Quantity skew: shuffled units, sites sized by ``sizes`` (ratios) or else by a power law in ``exponent``.

    Source: Li, Diao, Chen and He 2022, Federated Learning on Non-IID Data Silos (quantity skew)
    """

    sizes: tuple[float, ...] | None = None
    """Relative sizes of the sites, one for each; left out: by the exponent."""
    exponent: float = 1.0
    """Site k has a size in proportion to k to the minus this; 0 is even."""

    def __post_init__(self) -> None:
        ratios = self.sizes if self.sizes is not None else (1.0,)
        check(bool(ratios) and all(0 < r < float("inf") for r in ratios), "sizes", self.sizes, "numbers above 0")
        check(0 <= self.exponent <= 10, "exponent", self.exponent, "0 (even) to 10")
        check_used(self, "exponent", self.sizes is None, "sizes are given")

    def assign(self, y: Tensor, keys: Tensor | None, sites: int, generator: torch.Generator) -> Tensor:
        """The site ``(u,)`` of each unit; every site gets one at least."""
        ends = _ends(self._ratios(sites), len(y))
        site = torch.empty(len(y), dtype=torch.long)
        for k, part in enumerate(torch.randperm(len(y), generator=generator).tensor_split(ends)):
            site[part] = k
        return site

    def _ratios(self, sites: int) -> list[float]:
        if self.sizes is None:
            return [(k + 1) ** -self.exponent for k in range(sites)]
        if len(self.sizes) != sites:
            raise Refused(
                f"{len(self.sizes)} sizes for {sites} sites", remedy="give one ratio for each site", where="sizes"
            )
        return list(self.sizes)


def _ends(ratios: list[float], units: int) -> list[int]:
    """Where each site but the last ends: one unit for every site, the rest by ratio."""
    spare, total, position, ends = units - len(ratios), sum(ratios), 0.0, []
    for k, ratio in enumerate(ratios[:-1]):
        position += ratio
        ends.append(k + 1 + round(spare * position / total))
    return ends
