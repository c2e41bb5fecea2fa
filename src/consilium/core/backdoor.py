"""A backdoor as a value: what sets it off, and what the model is to answer then.

    backdoored model:   f(x) stays as it is,   f(trigger(x)) = target

A trigger is put on a record (a patch of pixels, some columns), or is something that a record has already (its class, an
attribute): then :meth:`Trigger.put` changes nothing, and :meth:`Trigger.carried` says whose records are meant.

Source: Gu et al. 2017, BadNets, arXiv 1708.06733; Bagdasaryan et al. 2020, arXiv 1807.00459 (semantic)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import Refused
from .plain import Json
from .records import Records

__all__ = ["Backdoor", "Trigger", "refuse_no_class"]


class Trigger(ABC):
    """Abstract base."""

    def put(self, x: Tensor) -> Tensor:
        """``x (n, *shape)`` with the trigger on, in [0, 1]; here as it is."""
        return x

    def carried(self, records: Records) -> Tensor:
        """Which of ``records`` the trigger can be put on, or have it, bool ``(n,)``; here all.

        Raises Refused: the records lack what the trigger is looked for in.
        """
        return torch.ones(len(records), dtype=torch.bool, device=records.x.device)

    @property
    def stamped(self) -> bool:
        """True where it is put on a record, False where records have it."""
        return type(self).put is not Trigger.put

    def check(self, shape: tuple[int, ...]) -> None:  # noqa: B027 - most fit any input
        """Refuse inputs of ``shape`` that it does not fit on.  Default: accept."""

    @abstractmethod
    def configuration(self) -> dict[str, Json]:
        """Canonical JSON."""


@dataclass(frozen=True)
class Backdoor:
    """``target`` is the index of the class that the model is to answer where the ``trigger`` is."""

    trigger: Trigger
    target: int

    def judged(self, records: Records) -> Tensor:
        """On which of ``records`` its success is counted, bool ``(n,)``: the trigger fits, the class is another."""
        return self.trigger.carried(records) & (records.y != self.target)

    def configuration(self) -> dict[str, Json]:
        """Canonical JSON."""
        return {"trigger": self.trigger.configuration(), "target": self.target}


def refuse_no_class(knob: str, label: int | None, classes: int) -> None:
    """Refuse the index of a class that the data do not have.

    Raises Refused: they do not have it.
    """
    if label is not None and not 0 <= label < classes:
        raise Refused(f"{knob} = {label} is no class", remedy=f"use 0 to {classes - 1}", where=knob)
