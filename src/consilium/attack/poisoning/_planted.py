"""What every corruption that plants a backdoor shares: poisoned records, the target, the backdoor as a value.

A subclass writes ``trigger`` and has the knobs ``sites``, ``target`` and ``share``; what it sends in the end it
decides itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from consilium.core.attack import Corruption
from consilium.core.backdoor import Backdoor, Trigger
from consilium.core.entry import check
from consilium.core.inputs import Inputs, refuse_tokens
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.update import Update
from consilium.learn.triggers.columns import Columns
from consilium.learn.triggers.pixels import Pixels, Place

from ._forged import bounded, scaled

__all__ = ["Planted", "check_stamp", "stamp"]


@dataclass(frozen=True)
class Planted(Corruption, ABC):
    """A ``share`` of the records on which the trigger can be put, or have it, get it and the label ``target``."""

    nist: ClassVar[str | None] = "NISTAML.023"

    target: int
    share: float

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        check(self.sites >= 0, "sites", self.sites, "at least 0")
        check(self.target >= 0, "target", self.target, "the index of a class")
        check(0 <= self.share <= 1, "share", self.share, "a share between 0 and 1")
        knobs = vars(self)
        if "size" in knobs:
            check_stamp(knobs["size"], knobs["value"], knobs["blend"])
        if "columns" in knobs:
            columns, values = knobs["columns"], knobs["values"]
            check(len(columns) == len(values), "values", values, f"one value for each of {len(columns)} columns")
            check(all(c >= 0 for c in columns), "columns", columns, "numbers of columns, from 0")
            check(all(0 <= v <= 1 for v in values), "values", values, "values between 0 and 1")

    @abstractmethod
    def trigger(self) -> Trigger:
        """What the model is to answer as the target."""

    def poison(self) -> Trigger:
        """What this site's own records get: the trigger, or its part of it."""
        return self.trigger()

    def sent(self, updates: Sequence[Update], factor: float, within: float | None = None) -> Sequence[Update]:
        """``updates`` times ``factor``, none longer than ``within``; as they are where nothing was poisoned."""
        if self.share == 0 or (factor == 1 and within is None):
            return updates
        return [bounded(scaled(update, factor), within) for update in updates]

    def backdoor(self) -> Backdoor:
        """The trigger and the target."""
        return Backdoor(self.trigger(), self.target)

    def describe(self, classes: Sequence[str]) -> str:
        """Which class the trigger is to be answered as, by name."""
        return f"plants a backdoor into {classes[self.target]!r}" if self.target < len(classes) else ""

    def check_task(self, task: Task) -> None:
        """Refuse what has no classes."""
        refuse_unless_exclusive(task, self, "a trigger is to be answered as one class")

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse tokens where the trigger is put on a record."""
        if self.trigger().stamped:
            refuse_tokens(inputs, self, "it sets numbers of a record to a value, and an id is no quantity")

    def records(self, records: Records, classes: int, stream: Stream) -> Records:
        """The same records, floor(share n) of the n that can be poisoned with trigger and target."""
        backdoor = Backdoor(self.poison(), self.target)
        place = torch.nonzero(backdoor.judged(records).cpu())[:, 0]
        order = torch.randperm(len(place), generator=stream.child("trigger").generator())
        at = place[order[: math.floor(self.share * len(place) + 1e-9)]].to(records.y.device)
        if not len(at):
            return records
        x, y = records.x.clone(), records.y.clone()
        x[at], y[at] = backdoor.trigger.put(x[at]), self.target
        return replace(records, x=x, y=y)


def stamp(
    size: int, place: Place, value: float, blend: float, columns: Sequence[int] = (), values: Sequence[float] = ()
) -> Trigger:
    """The ``columns`` of a table where some are named, else a square of pixels."""
    return Columns(tuple(columns), tuple(values)) if columns else Pixels(size, place, value, blend)


def check_stamp(size: int, value: float, blend: float) -> None:
    """Check the ranges of the knobs of a square.

    Raises Refused: one of them is out of range.
    """
    check(size >= 1, "size", size, "at least 1 pixel")
    check(0 <= value <= 1, "value", value, "a value between 0 and 1")
    check(0 < blend <= 1, "blend", blend, "a share above 0, at most 1")
