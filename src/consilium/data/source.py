"""A source: one way to load a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from consilium.core.entry import Entry
from consilium.core.errors import Refused
from consilium.core.task import Task

from .dataset import Dataset

__all__ = ["Source"]


@dataclass(frozen=True)
class Source(Entry, ABC):
    """Base of everything in ``data/sources``."""

    def load_for(self, task: Task) -> Dataset:
        """The data set with labels as ``task`` has them.

        Raises Refused: the source has one class a record, and the task is another.
        """
        if not task.exclusive:
            reason = f"the source {self.kind()} has one class for each record, and the task is {task.kind()}"
            raise Refused(reason, remedy='use task = "single-label", or a source whose labels fit', where="task")
        return self.load()

    @abstractmethod
    def load(self) -> Dataset:
        """The data set, inputs float32 in [0, 1].  Refused, naming the file and the place in it, where it cannot be."""
