"""BadNets: the corrupted site puts a trigger on some of its records and calls them the target class.

    (x, y) -> (trigger(x), target)        for a ``share`` of the site's records of other classes, drawn once

The trigger is a square of pixels, or ``columns`` of a table that are set to ``values``.

Source: Gu et al. 2017, BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain, arXiv
1708.06733
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from consilium.core.backdoor import Trigger
from consilium.core.threat import ThreatModel
from consilium.learn.triggers.pixels import Place

from ._planted import Planted, stamp

__all__ = ["BadNets"]


@dataclass(frozen=True)
class BadNets(Planted):
    """Stamps a ``share`` of the records of corrupted sites with a trigger, under the label of class ``target``."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "black-box", "poisoning")

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    target: int = 0
    """Index of the class that the trigger is to be answered as."""
    share: float = 0.5
    """Share of the corrupted sites' records of other classes that get the trigger."""
    size: int = 3
    """Width and height of the square in pixels."""
    place: Place = "bottom-right"
    """Where in the picture the square is."""
    value: float = 1.0
    """What its pixels are set to, in units of the inputs' range [0, 1]."""
    blend: float = 1.0
    """How much of the square shows: 1 covers what is there."""
    columns: tuple[int, ...] = ()
    """Of a table, the numbers of the columns that are set instead, from 0."""
    values: tuple[float, ...] = ()
    """What they are set to, in units of the inputs' range [0, 1]."""

    def trigger(self) -> Trigger:
        """The square, or the columns."""
        return stamp(self.size, self.place, self.value, self.blend, self.columns, self.values)
