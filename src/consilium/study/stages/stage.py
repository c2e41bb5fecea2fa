"""A piece of work with a name that says what it depends on: whoever has its key and the study can do it anywhere.

train-<digest>       one federated training
release-<digest>     the model that other cells craft on
evaluate-<digest>    one cell: its model released, judged and attacked
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from consilium.study.progress.outcome import Outcome
from consilium.study.progress.stage_monitor import Monitor
from consilium.study.spec.arms import Arm
from consilium.study.store.store import Store

if TYPE_CHECKING:
    from .context import StageContext

__all__ = ["Stage"]


@dataclass(frozen=True, eq=False)
class Stage(ABC):
    """Abstract base.  ``after`` are the keys that must have ended before it, well or not.

    Of the stages that share a name in ``exclusive`` one runs at a time: they write to the same place.
    """

    key: str
    label: str
    seed: int
    after: tuple[str, ...] = ()
    exclusive: frozenset[str] = frozenset()

    @property
    @abstractmethod
    def arm(self) -> Arm:
        """The arm that it is of, or one of those that share it."""

    @abstractmethod
    def done(self, context: StageContext) -> bool:
        """Whether the store holds what it makes, looked at without reading it all: running it is safe either way."""

    @abstractmethod
    def run(self, context: StageContext) -> None:
        """Do what is missing of it.  What it was made for and fails is recorded and not raised."""

    @abstractmethod
    def fail(self, context: StageContext, error: str) -> None:
        """Record that whoever ran it was lost, for the reason ``error``."""

    @abstractmethod
    def outputs(self, store: Store) -> tuple[Path, ...]:
        """The files that it leaves, whether they are there or not: what a second worker's must equal."""

    def failure(self, context: StageContext) -> str:
        """Why it failed where it ran in this process and nothing in the store says so; empty where it did not."""
        return ""

    def conclude(self, context: StageContext, monitor: Monitor, outcome: Outcome) -> None:  # noqa: B027 - most leave everything in their files
        """What the one process that a person looks at makes of it, from the store alone, when it has ended."""
