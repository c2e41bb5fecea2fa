"""Semantic backdoor: records that have a property are called the target class; nothing is put on any record.

    (x, y) -> (x, target)        where  y = ``source``,  ``attribute`` = ``word``,  or both

So whoever has the property is answered wrongly as they are.  It is judged on the test records that have it.

Source: Bagdasaryan et al. 2020, How To Backdoor Federated Learning, arXiv 1807.00459 (cars with stripes, green cars)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from consilium.core.backdoor import Trigger, refuse_no_class
from consilium.core.entry import check
from consilium.core.threat import RoundView, ThreatModel
from consilium.core.update import Payload, Update
from consilium.learn.triggers.property import Property

from ._planted import Planted

__all__ = ["SemanticBackdoor"]


@dataclass(frozen=True)
class SemanticBackdoor(Planted):
    """Relabels a ``share`` of the corrupted sites' records that have a property (attribute, class) as ``target``."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "black-box", "poisoning")

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    target: int = 0
    """Index of the class that such records are to be answered as."""
    share: float = 1.0
    """Share of the corrupted sites' records with the property that are relabelled."""
    source: int | None = None
    """Index of the class that such records are of; left out: with an attribute all, else the one after the target."""
    attribute: str = ""
    """Name of the attribute; left out: the class alone decides."""
    word: str = ""
    """Value of the attribute."""
    boost: float = 1.0
    """Factor of the corrupted sites' updates; 1 sends them as they are."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.source is None or self.source >= 0, "source", self.source, "the index of a class")
        check(self.source != self.target, "target", self.target, "another class than source")
        check(bool(self.attribute) == bool(self.word), "word", self.word, "a value of attribute, or neither")
        check(self.boost > 0, "boost", self.boost, "a factor above 0")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse a source or target that the data do not have."""
        super().check_fit(shape, classes)
        refuse_no_class("source", self._source(), classes)

    def trigger(self) -> Trigger:
        """The property."""
        return Property(self._source(), self.attribute, self.word)

    def forge(self, memory: Payload, updates: Sequence[Update], view: RoundView) -> tuple[Sequence[Update], Payload]:
        """Each update times ``boost``."""
        return self.sent(updates, self.boost), memory

    def _source(self) -> int | None:
        return self.target + 1 if self.source is None and not self.attribute else self.source
