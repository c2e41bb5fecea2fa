"""Stages by any executor of :mod:`concurrent.futures`, wherever its workers are.

What a worker says of a stage is believed when the store shows it; until then its progress is read from the store: the
rounds of a training from ``rounds.jsonl``, the attacks on a model from its evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from consilium.core.errors import Failed
from consilium.monitor.interrupt import check_interrupt
from consilium.study.executors.perform import Prepared

from .elsewhere import perform_elsewhere
from .folder import output_digest
from .followed import Followed

__all__ = ["Foreign"]

P = ParamSpec("P")
T = TypeVar("T")
_MOMENT = 1.0


class Foreign:
    """``workers`` stages of ``prepared`` at once by ``executor``; any error of it may be that of a lost worker."""

    lost: tuple[type[BaseException], ...] = (Exception,)
    perform = staticmethod(perform_elsewhere)

    def __init__(
        self,
        prepared: Prepared,
        executor: Executor,
        workers: int,
        moment: float = _MOMENT,
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self.workers, self._prepared, self._executor, self._moment = workers, prepared, executor, moment
        self._close = close
        self._running: dict[Future[Any], tuple[Future[Any], Followed]] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The last argument is the key of the stage."""
        future: Future[T] = Future()
        followed = Followed(self._prepared, self._prepared.stages[str(args[-1])])
        self._running[future] = self._executor.submit(fn, *args, **kwargs), followed
        return future

    def ended(self, futures: Collection[Future[Any]]) -> set[Future[Any]]:
        """What has ended, and lies in the store, after a moment."""
        check_interrupt()
        wait([inner for inner, _ in self._running.values()], self._moment, FIRST_COMPLETED)
        for future, (inner, followed) in list(self._running.items()):
            followed.look()
            if inner.done():
                del self._running[future]
                self._settle(future, inner, followed)
        return {future for future in futures if future.done()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """What has not begun does not begin."""
        for inner, _ in self._running.values():
            inner.cancel()
        self._executor.shutdown(wait=False)  # not every executor can be told more
        self._close()

    def _settle(self, future: Future[Any], inner: Future[Any], followed: Followed) -> None:
        """A job's end proves nothing: what it says that it left must be in the store."""
        try:
            result = inner.result()
            wanted = result["output"]
            if wanted and output_digest(followed.stage, self._prepared.context.store) != wanted:
                raise Failed(f"{followed.stage.label} is not in the store as its worker left it")
            followed.end()
            future.set_result(result)
        except Exception as error:
            future.set_exception(error)
        except BaseException as error:  # it was cancelled by someone else
            future.set_exception(Failed(f"{type(error).__name__}: {error}"))
