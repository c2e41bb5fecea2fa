"""How the server makes one aggregate of many updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from .update import Aggregate, Payload, Update

__all__ = ["Merge"]


class Merge(ABC):
    """``reads`` is what it must see: the weighted ``sum`` alone, or ``each`` update.

    A merge that reads each cannot stand behind secure aggregation (LAWS 2).
    """

    reads: Literal["sum", "each"]

    @abstractmethod
    def merge(self, updates: Sequence[Update], memory: Payload) -> tuple[Aggregate, Payload]:
        """One aggregate of at least one update, and the memory for the next round."""
