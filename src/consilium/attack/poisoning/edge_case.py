"""Edge case: rare records, far from all that the honest sites have, are called the target class.

    (x, y) -> (x, target)        for the ``tail`` of the records of class ``source`` furthest from their mean

What is rare is answered wrongly, and hardly any honest record says otherwise.  In a site's records and in the test set
alike the tail is that of the records at hand.

Source: Wang et al. 2020, Attack of the Tails: Yes, You Really Can Backdoor Federated Learning, arXiv 2007.05084
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from consilium.core.backdoor import Trigger, refuse_no_class
from consilium.core.entry import check
from consilium.core.threat import RoundView, ThreatModel
from consilium.core.update import Payload, Update
from consilium.learn.triggers.property import Tail

from ._planted import Planted

__all__ = ["EdgeCase"]


@dataclass(frozen=True)
class EdgeCase(Planted):
    """Relabels the records of one class that are furthest from its mean as ``target``, at corrupted sites."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "black-box", "poisoning")

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    target: int = 0
    """Index of the class that such records are to be answered as."""
    share: float = 1.0
    """Share of the corrupted sites' rare records that are relabelled."""
    source: int = 1
    """Index of the class that such records are of."""
    tail: float = 0.1
    """Share of the records of that class that count as rare."""
    boost: float = 1.0
    """Factor of the corrupted sites' updates; 1 sends them as they are."""
    within: float | None = None
    """Length to which the scaled update is cut; left out: none."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.source >= 0, "source", self.source, "the index of a class")
        check(self.source != self.target, "target", self.target, "another class than source")
        check(0 < self.tail <= 1, "tail", self.tail, "a share above 0, at most 1")
        check(self.boost > 0, "boost", self.boost, "a factor above 0")
        check(self.within is None or self.within > 0, "within", self.within, "a length above 0")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse a source or target that the data do not have."""
        super().check_fit(shape, classes)
        refuse_no_class("source", self.source, classes)

    def trigger(self) -> Trigger:
        """Being rare."""
        return Tail(self.source, self.tail)

    def forge(self, memory: Payload, updates: Sequence[Update], view: RoundView) -> tuple[Sequence[Update], Payload]:
        """Each update times ``boost``, cut to ``within``."""
        return self.sent(updates, self.boost, self.within), memory
