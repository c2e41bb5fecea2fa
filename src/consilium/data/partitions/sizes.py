"""Quantity skew within bounds: many sites of few records each, the most common size the smallest.

    P(size = s) ~ s^-a  for s = minimum, ..., maximum;  a is the one whose mean is units / sites

Site k takes the quantile (k + 1/2) / K of that law, so the sizes are those of the law and not of a lucky draw; which
site has which size, and which units, is shuffled.  All units are given out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.data.partition import Partition

__all__ = ["Sizes"]

_Sizes = npt.NDArray[np.int64]
_STEEPEST = 60.0


@dataclass(frozen=True)
class Sizes(Partition):
    """Shuffled units, sites of ``minimum`` to ``maximum`` of them each, by a power law that gives out every unit.

    Source: Li et al. 2020, Federated Optimization in Heterogeneous Networks (power-law sizes), arXiv 1812.06127
    """

    minimum: int = 1
    """Fewest units of a site."""
    maximum: int = 50
    """Most units of a site."""

    def __post_init__(self) -> None:
        check(self.minimum >= 1, "minimum", self.minimum, "1 or more")
        check(self.maximum >= self.minimum, "maximum", self.maximum, "the minimum or more")

    def assign(self, y: Tensor, keys: Tensor | None, sites: int, generator: torch.Generator) -> Tensor:
        """The site ``(u,)`` of each unit; refused where so many sites of such sizes cannot hold them exactly."""
        self._check_fits(len(y), sites)
        sizes = torch.from_numpy(_given_out(self._quantiles(len(y), sites), self.minimum, self.maximum, len(y)))
        sizes = sizes[torch.randperm(sites, generator=generator)]
        site = torch.empty(len(y), dtype=torch.long)
        site[torch.randperm(len(y), generator=generator)] = torch.repeat_interleave(torch.arange(sites), sizes)
        return site

    def _check_fits(self, units: int, sites: int) -> None:
        if not sites * self.minimum <= units <= sites * self.maximum:
            raise Refused(
                f"{units} units are not {sites} sites of {self.minimum} to {self.maximum} each",
                remedy=f"use {-(-units // self.maximum)} to {units // self.minimum} sites, or other sizes",
                where="sites",
            )

    def _quantiles(self, units: int, sites: int) -> _Sizes:
        """The size of each site, smallest first, whose sum is near ``units``."""
        s = np.arange(self.minimum, self.maximum + 1, dtype=np.float64)
        low, high = -_STEEPEST, _STEEPEST  # the mean falls from maximum to minimum as the exponent grows
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if _law(s, middle) @ s > units / sites else (low, middle)
        share = _law(s, (low + high) / 2).cumsum()
        places = np.searchsorted(share / share[-1], (np.arange(sites) + 0.5) / sites)
        return s[np.minimum(places, len(s) - 1)].astype(np.int64)


def _law(s: npt.NDArray[np.float64], exponent: float) -> npt.NDArray[np.float64]:
    weight = -exponent * np.log(s)
    weight = np.exp(weight - weight.max())
    share: npt.NDArray[np.float64] = weight / weight.sum()
    return share


def _given_out(sizes: _Sizes, minimum: int, maximum: int, units: int) -> _Sizes:
    """``sizes`` with what rounding left over given to, or taken from, one site after the other, largest first."""
    sizes = sizes.copy()
    while (surplus := units - int(sizes.sum())) != 0:
        able = np.flatnonzero(sizes < maximum if surplus > 0 else sizes > minimum)[::-1][: abs(surplus)]
        sizes[able] += 1 if surplus > 0 else -1
    return sizes
