"""A partition: which site holds which unit.

It divides units (patients), never records, so no unit can be at two sites.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from consilium.core.entry import Entry
from consilium.core.errors import Failed, Refused

from .dataset import Dataset

__all__ = ["Partition"]


@dataclass(frozen=True)
class Partition(Entry, ABC):
    """Base of everything in ``data/partitions``.  ``natural`` sites are named after the keys they hold."""

    natural: ClassVar[bool] = False

    def keyed(self, dataset: Dataset) -> Dataset:
        """``dataset`` under the natural keys by which it is divided: its own."""
        return dataset

    @abstractmethod
    def assign(self, y: Tensor, keys: Tensor | None, sites: int, generator: torch.Generator) -> Tensor:
        """The site, int64 ``(u,)`` in [0, sites), of u units with labels ``y (u,)`` and natural keys ``keys (u,)``."""

    @final
    def divide(self, y: Tensor, keys: Tensor | None, sites: int, generator: torch.Generator) -> Tensor:
        """``assign``, checked: every unit has one site, and every site has a unit.

        Raises Refused: too few units, or a site without any.  Raises Failed: ``assign`` returned invalid sites.
        """
        if len(y) < sites:
            raise Refused(
                f"{len(y)} units cannot be divided over {sites} sites", remedy="use fewer sites", where="sites"
            )
        site = self.assign(y, keys, sites, generator)
        if site.shape != y.shape or int(site.min()) < 0 or int(site.max()) >= sites:
            raise Failed(f"partition {self.kind()} did not give each of {len(y)} units one of {sites} sites")
        empty = (torch.bincount(site, minlength=sites) == 0).nonzero().flatten().tolist()
        if empty:
            raise Refused(
                f"site-{empty[0]} got no records under partition {self.kind()}",
                remedy="use fewer sites or a more even partition",
                where="partition",
            )
        return site
