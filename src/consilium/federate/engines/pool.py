"""Worker processes that live as long as a training, one per core, each with one thread.

Workers are forked, so they inherit every site's records and the site functions: data are sent once, by not being sent.
A round sends the inbox through shared memory, hands out sites as workers become free, and passes the answers on in the
order of the cohort, so that a result does not depend on who was quick.  Workers run ahead of the server by a few
answers each and then wait, so that memory does not grow with the cohort.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from consilium.core.errors import ConsiliumError, Failed, Refused
from consilium.core.exchange import Inbox, Outbox, SiteHalf, SiteState
from consilium.core.plain import Json

from ._shared import Arena
from .engine import Engine, PhaseWork
from .loop import Loop

__all__ = ["Pool", "begin_worker", "cores", "keep_freed_memory", "why_no_fork"]

_ARENA = 1 << 30
_AHEAD = 4
"""Answers per worker that may wait for the server to read those before them."""


class Pool(Engine):
    """``workers`` processes (0: one per core), each of which carries its share of sites by ``inner``.

    They are forked with the ``halves`` of the exchanges that they will carry.
    """

    def __init__(self, inner: Engine, halves: Sequence[SiteHalf[Any, Any, Any]], workers: int = 0) -> None:
        refusal = why_no_fork()
        if refusal is not None:
            raise refusal
        self.inner, self._halves, self.tolerance = inner, tuple(halves), inner.tolerance
        self._down, self._workers = Arena(_ARENA), list[_Worker]()
        try:
            for _ in range(workers or cores()):
                self._workers.append(_Worker(inner, self._halves, self._down, self._workers))
        except OSError as error:
            self.close()
            raise Failed(f"a worker process cannot be started: {error}", remedy='use engine = "loop"') from error

    @classmethod
    def why_not(cls, device: str, sites: SiteHalf[Any, Any, Any]) -> Refused | None:  # noqa: ARG003 - others ask
        """Workers are forked, and compute on the CPU."""
        if device == "cpu":
            return why_no_fork()
        return Refused(f"the pool's workers compute on the CPU, and the study on {device}", remedy='use "loop"')

    @property
    def streams(self) -> bool:
        """As the engine in the workers."""
        return self.inner.streams

    def carry(self, work: PhaseWork[SiteState, Inbox, Outbox]) -> Iterator[tuple[str, Outbox, SiteState]]:
        """Shares of the cohort, each to the next free worker."""
        for worker in self._workers:
            worker.drop_answer()
        self._down.clear()
        index, inbox = self._index(work.sites), self._down.put(work.inbox)
        shares = self.inner.shares(work.cohort, len(self._workers))
        jobs = ((index, work.phase, part, inbox, {s: work.states[s] for s in part}, work.name) for part in shares)
        ready: dict[str, tuple[Outbox, SiteState]] = {}
        queue, most = _Queue(self._workers, jobs, len(shares)), _AHEAD * len(self._workers)
        for site in work.cohort:
            ready |= queue.answers(len(ready) < most, 0)  # workers go on while the server reads
            while site not in ready:
                ready |= queue.answers(len(ready) < most, None)
            yield (site, *ready.pop(site))

    def at_once(self, sites: int) -> int:
        """Enough for every worker to have two shares."""
        return self.inner.at_once(sites) if not isinstance(self.inner, Loop) else min(sites, 2 * len(self._workers))

    def figures(self) -> dict[str, Json]:
        """What each worker runs, and how many there are."""
        return {**self.inner.figures(), "workers": len(self._workers), "threads": 1}

    def close(self) -> None:
        """Stop the workers."""
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def _index(self, half: object) -> int:
        for index, known in enumerate(self._halves):
            if known is half:
                return index
        raise Failed("the pool was started without this exchange")


class _Queue:
    """Jobs on their way through the workers."""

    def __init__(self, workers: Sequence[_Worker], jobs: Iterator[Any], count: int) -> None:
        self._idle, self._jobs, self._left = list(reversed(workers)), jobs, count
        self._busy: dict[Connection, _Worker] = {}

    def answers(self, more: bool, timeout: float | None) -> dict[str, tuple[Any, Any]]:
        """Outbox and state by site, of what is done within ``timeout`` seconds, or of a job at least where it is None.

        New jobs are assigned while ``more`` answers are needed.  Raises the error of a worker.
        """
        while self._left and self._idle and (more or not self._busy):
            worker = self._idle.pop()
            self._busy[worker.ask(next(self._jobs))] = worker
            self._left -= 1
        if not self._busy and timeout is None:
            raise Failed("no worker has answered for every site")
        results: dict[str, tuple[Any, Any]] = {}
        for ready in wait(list(self._busy), timeout):
            worker = self._busy.pop(ready)  # type: ignore[call-overload]
            self._idle.append(worker)
            results |= worker.answer()
        return results


class _Worker:
    """This side of one worker process."""

    def __init__(self, inner: Engine, halves: tuple[Any, ...], down: Arena, before: Sequence[_Worker]) -> None:
        self.up, self.states, self._asked = Arena(_ARENA), Arena(_ARENA), False
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        others = [worker.pipe for worker in before]
        self.process: BaseProcess = context.Process(
            target=_serve, args=(theirs, [self.pipe, *others], inner, halves, down, self.states, self.up)
        )
        sys.stdout.flush()
        sys.stderr.flush()  # else the child would print what waits here once more
        with warnings.catch_warnings():  # of forking beside threads: a worker takes none of their locks
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()

    def ask(self, job: Any) -> Connection:
        """Hand out a job; the pipe becomes readable when it is done."""
        index, phase, sites, inbox, states, name = job
        self.states.clear()
        try:
            self.pipe.send((index, phase, sites, inbox, self.states.put(states), name))
        except OSError as error:
            raise self._died() from error
        self._asked = True
        return self.pipe

    def drop_answer(self) -> None:
        """Wait for an unread answer, as after an aborted round, and discard it."""
        if self._asked:
            with suppress(ConsiliumError):
                self.answer()

    def answer(self) -> dict[str, tuple[Any, Any]]:
        """What the job gave, by site; raises its error."""
        self._asked = False
        try:
            good, content = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        if good:
            return self.up.take(content)  # type: ignore[no-any-return]
        kind, reason, remedy, where = content
        raise kind(reason, remedy=remedy, where=where)

    def stop(self) -> None:
        """End the process; one that is at work is not waited for."""
        self.pipe.close()
        self.process.join(0.5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _died(self) -> Failed:
        self.process.join(1)
        return Failed(
            f"a worker process ended (exit status {self.process.exitcode})",
            remedy="it may have run out of memory: use fewer workers, or a smaller batch",
        )


def begin_worker(others: Sequence[Connection]) -> None:
    """What a forked worker does first: it lets go of the pipes of ``others``, and leaves interrupts to its parent."""
    for other in others:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    keep_freed_memory()
    _let_the_parent_go_on()


def _serve(
    pipe: Connection,
    others: list[Connection],
    inner: Engine,
    halves: tuple[Any, ...],
    down: Arena,
    memory: Arena,
    up: Arena,
) -> None:
    """The worker's side: answer until the pipe closes, which it does when the parent ends, however it ends."""
    begin_worker(others)
    while True:
        try:
            index, phase, sites, inbox, states, name = pipe.recv()
        except (EOFError, OSError):
            return
        up.clear()
        try:
            work = PhaseWork(halves[index], phase, sites, down.take(inbox), memory.take(states), name)
            answer: tuple[bool, Any] = True, up.put({s: (outbox, after) for s, outbox, after in inner.carry(work)})
        except ConsiliumError as error:
            answer = False, (type(error), error.reason, error.remedy, error.where)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # it must not be mistaken for a worker that was killed
            answer = False, (Failed, f"{type(error).__name__}: {error}", "", name)
        try:
            pipe.send(answer)
        except OSError:
            return


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed, instead of faulting every activation in anew; False where there is no mallopt.

    A small convolution's step spends a third of its time in page faults without it.
    """
    libc = ctypes.CDLL(None)
    trim_threshold, mmap_threshold = -1, -3
    if not hasattr(libc, "mallopt"):
        return False
    return bool(libc.mallopt(trim_threshold, (1 << 31) - 1) and libc.mallopt(mmap_threshold, 1 << 30))


def _let_the_parent_go_on() -> None:
    """A worker that is handed a job does not take the core from the parent, which has others to hand out.

    As an ordinary process it does, and the next worker waits a millisecond and more for its job.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):  # where it is not allowed all is as before, a little slower
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def why_no_fork() -> Refused | None:
    """Why this process cannot fork workers; None if it can."""
    if not sys.platform.startswith("linux"):
        return Refused("the pool engine forks its workers, which is safe on Linux only", remedy='use engine = "loop"')
    if torch.cuda.is_available():  # torch's gradient threads are running then, and a forked child has none of them
        remedy = 'use engine = "loop", or hide the GPU: CUDA_VISIBLE_DEVICES='
        return Refused("the pool engine forks its workers, which a visible GPU forbids", remedy=remedy)
    return None
