"""What the scheduler asks of whoever does the stages: that of :mod:`concurrent.futures`, and when one has ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar

__all__ = ["StageExecutor"]

P = ParamSpec("P")
T = TypeVar("T")


class StageExecutor(Protocol):
    """``workers`` stages run at once; ``lost`` are the errors that say that a worker is gone, and not what it did.

    ``perform`` is what it is handed with a folder, a study and a stage: how one of its workers does a stage.
    """

    @property
    def workers(self) -> int:
        """How many stages run at once."""

    @property
    def lost(self) -> tuple[type[BaseException], ...]:
        """The errors of a worker that is gone."""

    @property
    def perform(self) -> Callable[[str, str, str], Mapping[str, Any]]:
        """Does the stage of the study in the folder, and returns what was done."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As an executor of :mod:`concurrent.futures`."""

    def ended(self, futures: Collection[Future[Any]]) -> set[Future[Any]]:
        """Those of ``futures`` that have ended; waits a moment for one."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> bool | None: ...
