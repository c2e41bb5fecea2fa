"""Jobs in processes of their own, one after another on every core, each with one thread.

A process is forked for a job and ends with it: it inherits the records, and gives its memory back.  It says that it is
alive while it works, and ends by itself when nobody listens any more, so that a killed run leaves no worker behind.
"""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from consilium.core.errors import ConsiliumError, Failed
from consilium.federate.engines.engine import one_thread
from consilium.federate.engines.pool import begin_worker

__all__ = ["Job", "each", "fork_worker"]

Job = Callable[[Callable[[], None]], None]
"""Work that leaves its result in a file; it calls what it is given from time to time, to say that it is alive."""


def each(jobs: Sequence[Job], workers: int, done: Callable[[], None]) -> None:
    """Run all ``jobs``, at most ``workers`` at once (1: in this process); ``done`` is called here after each.

    The first error ends the others and is raised; what is finished stays.
    """
    if workers == 1:
        for job in jobs:
            with one_thread():
                job(lambda: None)
            done()
        return
    waiting, running = list(reversed(jobs)), dict[Connection, BaseProcess]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                pipe, process = fork_worker(_serve, list(running), waiting.pop())
                running[pipe] = process
            for ready in wait(list(running)):
                if _ended(ready, running):  # type: ignore[arg-type]
                    done()
    finally:
        for pipe, process in running.items():
            pipe.close()
            process.kill()
            process.join()


def fork_worker(
    target: Callable[..., None], others: Sequence[Connection], *arguments: object
) -> tuple[Connection, BaseProcess]:
    """Fork a process that runs ``target(pipe, ends, *arguments)``; our end of its pipe, and the process.

    ``ends`` are ours of all pipes, ``others`` among them, which the worker closes.

    Raises Failed: the system starts no process.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(theirs, [ours, *others], *arguments))
    sys.stdout.flush()
    sys.stderr.flush()  # else the child would print what waits here once more
    with warnings.catch_warnings():  # of forking beside threads: a worker takes none of their locks
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            process.start()
        except OSError as error:
            raise Failed(f"a worker process cannot be started: {error}", remedy="use fewer workers") from error
    theirs.close()
    return ours, process


def _ended(pipe: Connection, running: dict[Connection, BaseProcess]) -> bool:
    """Hear one message; True if it was the end of a job that went well."""
    try:
        message: Any = pipe.recv()
    except EOFError:
        process = running.pop(pipe)
        pipe.close()
        process.join()
        if process.exitcode:
            raise Failed(
                f"a worker process ended (exit status {process.exitcode})",
                remedy="it may have run out of memory: use fewer workers, or a smaller batch",
            ) from None
        return True
    if message is not None:
        kind, reason, remedy, where = message
        raise kind(reason, remedy=remedy, where=where)
    return False


def _serve(pipe: Connection, others: list[Connection], job: Job) -> None:
    """The worker's side."""
    begin_worker(others)
    try:
        job(lambda: pipe.send(None))
    except BrokenPipeError:  # nobody waits for it
        return
    except ConsiliumError as error:
        pipe.send((type(error), error.reason, error.remedy, error.where))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # it must not be mistaken for a worker that was killed
        pipe.send((Failed, f"{type(error).__name__}: {error}", "", ""))
