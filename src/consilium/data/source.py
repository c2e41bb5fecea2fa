"""A source: one way to load a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from consilium.core.entry import Entry

from .dataset import Dataset

__all__ = ["Source"]


@dataclass(frozen=True)
class Source(Entry, ABC):
    """Base of everything in ``data/sources``."""

    @abstractmethod
    def load(self) -> Dataset:
        """The data set, inputs float32 in [0, 1].  Refused, naming the file and the place in it, where it cannot be."""
