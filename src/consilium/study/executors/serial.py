"""One stage after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

from .perform import perform

__all__ = ["Serial"]

P = ParamSpec("P")
T = TypeVar("T")


class Serial(Executor):
    """Does what is submitted at once; an error is raised there and then."""

    workers = 1
    lost: tuple[type[Exception], ...] = ()
    perform = staticmethod(perform)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Returns when it is done."""
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future

    def ended(self, futures: Collection[Future[T]]) -> set[Future[T]]:
        """All of them."""
        return set(futures)
