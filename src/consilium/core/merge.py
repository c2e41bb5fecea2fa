"""How the server makes one aggregate of many updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from .update import Aggregate, Payload, Update

__all__ = ["Aggregator", "Cohort", "RootUpdate"]

RootUpdate = Callable[[], Payload]
"""The server's own update of this round, computed on public records as a site computes its own on private ones."""


@dataclass(frozen=True)
class Cohort:
    """Who merges in each of ``rounds``: ``rate`` of ``population`` sites, each by its own coin or a fixed number."""

    population: int
    rounds: int
    rate: float = 1.0
    sampling: Literal["fixed", "poisson"] = "fixed"

    @property
    def expected(self) -> float:
        """Sites in a round, on average."""
        if self.sampling == "poisson":
            return self.rate * self.population
        return float(max(1, round(self.rate * self.population)))


class Aggregator(ABC):
    """``reads`` is what it must see: the weighted ``sum`` alone, or ``each`` update.

    A rule that reads each cannot stand behind secure aggregation (LAWS 2).  One that ``streams`` is handed updates one
    at a time and keeps none of them, so that a round's memory does not grow with its cohort; for any other all updates
    of a round are in memory.  One that ``follows_sites`` remembers something of each site by its name.  ``least`` is
    the fewest updates of which it makes an aggregate; one that takes none is handed an update of zeros.
    """

    reads: Literal["sum", "each"]
    least: int = 1
    follows_sites: bool = False

    @property
    def streams(self) -> bool:
        """Whether it keeps no update: each rule that reads the sum, and those of the others that say so."""
        return self.reads == "sum"

    def at(self, root: RootUpdate) -> Aggregator:
        """This rule in a round in which the server's own update is ``root()``.  Default: self, which reads none."""
        return self

    def withstood(self, updates: int) -> int | None:
        """How many of so many ``updates`` may be anything; None where that is not a number.  Default: None."""
        return None

    def broadcast_memory(self, memory: Payload) -> Payload:
        """The part of ``memory`` that the sites need for their half; it is sent with the broadcast."""
        return {}

    def expects(self) -> Mapping[str, tuple[int, ...]]:
        """Names and shapes of what it reads in an update beside what the algorithm expects."""
        return {}

    @abstractmethod
    def merge(
        self, updates: Iterable[Update], memory: Payload, weight: float | None = None
    ) -> tuple[Aggregate, Payload]:
        """One aggregate of at least one update, and the memory for the next round.

        ``updates`` are read once and in order.  ``weight`` is the sum of their weights, where it is known before the
        first one is read; a rule that needs it and gets None has to hold all updates.  Calling this again with the same
        arguments gives the same bits: noise is drawn from an addressed stream.
        """
