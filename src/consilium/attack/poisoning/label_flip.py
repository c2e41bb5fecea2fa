"""Label flipping: the corrupted site trains honestly on wrong labels.

    y -> (y + 1) mod classes       or, with ``source`` and ``target``, source -> target only

Source: Biggio et al. 2011, Support Vector Machines Under Adversarial Label Noise (ACML); Tolpegin et al. 2020, arXiv
2007.08432 (federated).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from consilium.core.attack import Corruption
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.threat import ThreatModel

__all__ = ["LabelFlip"]

_SHOWN = 4
"""Classes that are named; the others are counted."""


@dataclass(frozen=True)
class LabelFlip(Corruption):
    """Relabels a ``share`` of the corrupted sites' training records, drawn once.

    ``source``: only records of this class (default: all); ``target``: to this class (default: the next, cyclically).
    Both are positions, from 0, in the data set's list of classes: the declared one, else its labels in the order of
    text, in which 1, 2, 3, 10 stand as 1, 10, 2, 3.  The plan and the evidence say the classes by name.
    """

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "black-box", "poisoning")
    nist: ClassVar[str | None] = "NISTAML.013"

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    share: float = 1.0
    """Share of the corrupted sites' records that is changed."""
    source: int | None = None
    """Index of the class whose records are changed; left out: all classes."""
    target: int | None = None
    """Index of the class that they are given; left out: the next, cyclically."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        check(self.sites >= 0, "sites", self.sites, "at least 0")
        check(0 <= self.share <= 1, "share", self.share, "a share between 0 and 1")
        check(self.source is None or self.source >= 0, "source", self.source, "the index of a class")
        check(self.target is None or self.target >= 0, "target", self.target, "the index of a class")
        check(self.target is None or self.target != self.source, "target", self.target, "another class than source")

    def describe(self, classes: Sequence[str]) -> str:
        """Which class becomes which, by name; of many, the first few."""
        sources = range(len(classes)) if self.source is None else [self.source]
        into = {k: (k + 1) % len(classes) if self.target is None else self.target for k in sources}
        pairs = [f"{classes[k]!r} into {classes[to]!r}" for k, to in into.items() if k != to]
        rest = len(pairs) - _SHOWN
        return f"turns {', '.join(pairs[:_SHOWN])}" + (f" and {rest} more classes likewise" if rest > 0 else "")

    def check_task(self, task: Task) -> None:
        """Refuse what has no classes."""
        refuse_unless_exclusive(task, self, "it turns one class into another")

    def records(self, records: Records, classes: int, stream: Stream) -> Records:
        """The same records with floor(share * eligible) labels flipped; refused if a class does not exist.

        Raises Refused: a class that the data do not have.
        """
        for knob, label in (("source", self.source), ("target", self.target)):
            if label is not None and label >= classes:
                raise Refused(f"{knob} = {label} is no class", remedy=f"use 0 to {classes - 1}", where=knob)
        eligible = torch.ones_like(records.y, dtype=torch.bool) if self.source is None else records.y == self.source
        place = torch.nonzero(eligible.cpu())[:, 0]
        order = torch.randperm(len(place), generator=stream.child("label-flip").generator())
        flipped_at = place[order[: math.floor(self.share * len(place) + 1e-9)]].to(records.y.device)
        y = records.y.clone()
        y[flipped_at] = (y[flipped_at] + 1) % classes if self.target is None else self.target
        return records.relabelled(y)
