"""A property that records have of themselves: nothing is put on them.

Source: Bagdasaryan et al. 2020, How To Backdoor Federated Learning, arXiv 1807.00459 (semantic backdoors); Wang et al.
2020, Attack of the Tails, arXiv 2007.05084 (rare records)
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from consilium.core.attribute import attribute_named
from consilium.core.backdoor import Trigger
from consilium.core.errors import Refused
from consilium.core.plain import Json
from consilium.core.records import Records

__all__ = ["Property", "Tail"]


@dataclass(frozen=True)
class Property(Trigger):
    """Records of class ``source``, with ``word`` as their ``attribute``, or both; None and "" ask for nothing."""

    source: int | None = None
    attribute: str = ""
    word: str = ""

    def carried(self, records: Records) -> Tensor:
        """Those that have it.

        Raises Refused: the records have no such attribute, or no record has the word.
        """
        mask = super().carried(records)
        if self.source is not None:
            mask = mask & (records.y == self.source)
        if not self.attribute:
            return mask
        attribute = attribute_named(self.attribute, records.attributes, "attribute")
        if self.word not in attribute.words:
            known = ", ".join(attribute.words[:8]) if attribute.declared else f"{len(attribute.words)} others"
            reason = f"no record has {self.attribute} {self.word!r} (there are {known})"
            raise Refused(reason, remedy="use one of its values", where="word")
        return mask & (attribute.codes == attribute.words.index(self.word)).to(mask.device)

    def configuration(self) -> dict[str, Json]:
        """Every field."""
        return {"kind": "property", **asdict(self)}


@dataclass(frozen=True)
class Tail(Trigger):
    """Of the records of class ``source``, the ``share`` furthest from their mean, by Euclidean distance.

    So what is rare is decided within the records at hand: a site's own, or the test set's.
    """

    source: int
    share: float

    def carried(self, records: Records) -> Tensor:
        """ceil(share n) of the n records of the class."""
        mask = torch.zeros_like(super().carried(records))
        place = torch.nonzero(records.y == self.source)[:, 0]
        if not len(place):
            return mask
        x = records.x[place].flatten(1).to(torch.float64)
        distance = (x - x.mean(0)).norm(dim=1)
        mask[place[distance.argsort(descending=True, stable=True)[: math.ceil(self.share * len(place) - 1e-9)]]] = True
        return mask

    def configuration(self) -> dict[str, Json]:
        """Both fields."""
        return {"kind": "tail", **asdict(self)}
