"""Processes of this machine, one for each stage: forked, so that data and plan are inherited and never sent.

A worker ends with its stage, so one that is killed takes no other stage with it; and it ends with its parent, however
that ends.  It leaves interrupts to the parent, which kills its workers: all files are replaced atomically, so nothing
finished is lost.  A forked process computes with one thread: OpenMP's others are not there after a fork, and waiting
for them would never end.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Collection
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from consilium.core.errors import ConsiliumError, Failed, Refused
from consilium.federate.engines.pool import begin_worker
from consilium.monitor.interrupt import check_interrupt
from consilium.study.build.process_jobs import fork_worker
from consilium.study.progress.events import Event
from consilium.study.store.error_summary import own_code

from .perform import Prepared, perform

__all__ = ["Forked", "WorkerLost", "end_with"]

P = ParamSpec("P")
T = TypeVar("T")
_PDEATHSIG = 1
_MOMENT = 0.5
"""Seconds after which the parent looks whether somebody wants to stop."""


class WorkerLost(Failed):
    """The process that did a stage ended before the stage did."""


@dataclass(frozen=True, eq=False)
class _Worker:
    process: BaseProcess
    future: Future[Any]


class Forked(Executor):
    """At most ``workers`` stages of ``prepared`` at once, each with ``cores`` of the machine's cores."""

    lost: tuple[type[BaseException], ...] = (WorkerLost,)
    perform = staticmethod(perform)

    def __init__(self, prepared: Prepared, workers: int, cores: int) -> None:
        self.workers, self._prepared, self._cores = workers, prepared, cores
        self._running: dict[Connection, _Worker] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start it in a process of its own.

        Raises Failed: no process can be started.
        """
        self._prepared.gather(str(args[-1]))
        future: Future[T] = Future()
        arguments = (self._prepared, self._cores, os.getpid(), fn, args)
        ours, process = fork_worker(_serve, list(self._running), *arguments)
        self._running[ours] = _Worker(process, future)
        return future

    def ended(self, futures: Collection[Future[Any]]) -> set[Future[Any]]:
        """What has ended after a moment; what the others told is shown meanwhile."""
        check_interrupt()
        idle = not any(future.done() for future in futures)
        for ready in wait(list(self._running), _MOMENT if idle else 0):
            self._hear(ready)  # type: ignore[arg-type]
        return {future for future in futures if future.done()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing runs any more."""
        for pipe, worker in self._running.items():
            worker.process.kill()
            worker.process.join()
            pipe.close()
        self._running.clear()

    def _hear(self, pipe: Connection) -> None:
        """One message of a worker: an event, the end of its stage, or its own end."""
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            message = None
        worker = self._running[pipe]
        match message:
            case ("event", str(key), event):
                self._prepared.teller(key)(event)
            case ("done", result):
                worker.future.set_result(result)
                self._bury(pipe)
            case ("failed", BaseException() as error):
                worker.future.set_exception(error)
                self._bury(pipe)
            case _:
                worker.process.join()
                worker.future.set_exception(_lost(worker.process.exitcode))
                self._bury(pipe)

    def _bury(self, pipe: Connection) -> None:
        self._running.pop(pipe).process.join()
        pipe.close()


def _lost(status: int | None) -> WorkerLost:
    return WorkerLost(
        f"its worker process ended (exit status {status})",
        remedy="it may have run out of memory: use fewer workers, or a smaller batch",
    )


def _serve(
    pipe: Connection,
    others: list[Connection],
    prepared: Prepared,
    cores: int,
    parent: int,
    fn: Callable[..., Any],
    args: tuple[str, ...],
) -> None:
    """The worker's side."""
    begin_worker(others)
    end_with(parent)
    prepared.context = prepared.context.elsewhere(cores=cores)

    def tell(key: str, event: Event) -> None:
        pipe.send(("event", key, event))

    prepared.teller = lambda key: lambda event: tell(key, event)
    with suppress(BrokenPipeError):  # nobody waits for it
        try:
            pipe.send(("done", fn(*args)))
        except BrokenPipeError:
            raise
        except ConsiliumError as error:
            pipe.send(("failed", error))
        except SystemExit as error:  # of a user's module: what it had said is lost with the process
            pipe.send(("failed", Refused(f"{own_code(error) or 'a module'} ended the process (exit {error.code})")))
        except Exception as error:  # it must not be mistaken for a worker that was killed
            pipe.send(("failed", Failed(f"{type(error).__name__}: {error}")))


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it was asked for
        os._exit(1)
