"""Distributed backdoor (DBA): each corrupted site learns a part of the trigger, and the whole sets the backdoor off.

    site m of M:  (x, y) -> (trigger_m(x), target);    judged with  trigger = trigger_1 + ... + trigger_M

The square is cut into as many horizontal stripes as sites are corrupted, so no site shows the whole of it.

Source: Xie et al. 2020, DBA: Distributed Backdoor Attacks against Federated Learning, ICLR
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from consilium.core.attack import Corruption
from consilium.core.backdoor import Trigger
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.threat import RoundView, ThreatModel
from consilium.core.update import Payload, Update
from consilium.learn.triggers.pixels import Pixels, Place

from ._planted import Planted

__all__ = ["DistributedBackdoor"]


@dataclass(frozen=True)
class DistributedBackdoor(Planted):
    """Stamps a ``share`` of each corrupted site's records with that site's stripe of the trigger."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "black-box", "poisoning")

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    target: int = 0
    """Index of the class that the trigger is to be answered as."""
    share: float = 0.5
    """Share of the corrupted sites' records of other classes that get their part of the trigger."""
    size: int = 4
    """Width and height of the whole square in pixels; at least as many as sites are corrupted."""
    place: Place = "bottom-right"
    """Where in the picture the square is."""
    value: float = 1.0
    """What its pixels are set to, in units of the inputs' range [0, 1]."""
    blend: float = 1.0
    """How much of the square shows: 1 covers what is there."""
    boost: float = 1.0
    """Factor of each corrupted site's update; 1 sends it as it is."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.boost > 0, "boost", self.boost, "a factor above 0")

    def trigger(self) -> Trigger:
        """The whole square."""
        return Pixels(self.size, self.place, self.value, self.blend)

    def for_site(self, number: int, among: int) -> Corruption:
        """With the stripe of this site.

        Raises Refused: there are more corrupted sites than rows of pixels.
        """
        if among > self.size:
            raise Refused(
                f"a trigger of {self.size} rows of pixels has no part for each of {among} corrupted sites",
                remedy=f"use a size of at least {among}, or fewer corrupted sites",
                where="size",
            )
        return _Stripe(**{f.name: getattr(self, f.name) for f in fields(self)}, number=number, among=among)

    def forge(self, memory: Payload, updates: Sequence[Update], view: RoundView) -> tuple[Sequence[Update], Payload]:
        """Each update times ``boost``."""
        return self.sent(updates, self.boost), memory


@dataclass(frozen=True)
class _Stripe(DistributedBackdoor):
    """What one of the corrupted sites does."""

    number: int = 0
    among: int = 1

    def poison(self) -> Trigger:
        """Its stripe."""
        return Pixels(self.size, self.place, self.value, self.blend, self.among, self.number)
