"""A sink takes the curves of trainings and the final figures of cells to a program that draws them.

It is a copy for watching: evidence never comes from it.  Every series can be written again from ``rounds.jsonl``, so a
sink reports its last round, and receives the later ones.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Curve", "Sink"]

_LONGEST = 120


@dataclass(frozen=True)
class Curve:
    """What a series belongs to: a training or a cell, by digest, with its ``label`` and ``facts`` for people."""

    label: str
    digest: str
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """As a folder may be called; the digest keeps what an edited study trained apart from what it was before."""
        label = re.sub(r"[^A-Za-z0-9 ._+=,()-]", "-", self.label)[:_LONGEST]
        return f"{label} {self.digest[:8]}"


class Sink(ABC):
    """Abstract base; any method may raise; the caller ensures that no training fails by it."""

    kind: str = ""

    @abstractmethod
    def begin(self, curve: Curve, done: int) -> int:
        """The rounds that follow are ``curve``'s; ``done`` of them are over.  Returns how many of these are held."""

    @abstractmethod
    def write(self, number: int, values: Mapping[str, float], at: float) -> None:
        """Scalars of round ``number``, which ended ``at`` (seconds since 1970)."""

    @abstractmethod
    def end(self, finished: bool) -> None:
        """No more rounds of this curve come in this run; everything so far must be stored."""

    @abstractmethod
    def final(self, cell: Curve, values: Mapping[str, float]) -> None:
        """The final figures of a cell, in place of any earlier ones."""

    @abstractmethod
    def close(self) -> None:
        """The run is over."""
