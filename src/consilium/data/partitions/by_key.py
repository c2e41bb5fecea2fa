"""Real sites: the source names the origin of each unit (a hospital, a scanner, a state).

With fewer sites than keys, whole keys are put together: the largest key goes to the site that holds least so far.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.attribute import UNKNOWN, attribute_named
from consilium.core.errors import Refused
from consilium.data.dataset import Dataset
from consilium.data.partition import Partition

__all__ = ["ByKey"]


@dataclass(frozen=True)
class ByKey(Partition):
    """One site per natural key of the source; with fewer sites, whole keys are put together, largest first.

    A unit that its source names under two keys belongs to the one with most of its records.  ``attribute`` names an
    attribute of the records (a scanner) that takes the place of the source's key; such sites are called after its words
    only where these are declared, or the data are anyone's.

    Source: Graham 1969, Bounds on Multiprocessing Timing Anomalies (largest first)
    """

    natural: ClassVar[bool] = True
    added_later: ClassVar[tuple[str, ...]] = ("attribute",)

    attribute: str | None = None
    """Attribute of the records, such as a scanner, that takes the place of the source's key."""

    def keyed(self, dataset: Dataset) -> Dataset:
        """``dataset`` by its own keys, or by the attribute's values.

        Raises Refused: there is no such attribute, or its value is not known for a record.
        """
        if self.attribute is None:
            return dataset
        values = attribute_named(self.attribute, dataset.records.attributes, "partition.attribute")
        unknown = int((values.codes == UNKNOWN).sum())
        if unknown:
            raise Refused(
                f"{unknown} of {len(values.codes)} records have no value of the attribute {self.attribute!r}, by which "
                "they are divided",
                remedy="fill it in, leave those records out, or divide by another",
                where="partition.attribute",
            )
        public = values.declared or dataset.bundled
        return replace(dataset, keys=values.codes, key_names=values.words if public else ())

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
