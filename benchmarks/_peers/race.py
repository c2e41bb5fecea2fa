"""Engines side by side: each in a process that stays alive, all timed in turn in blocks, the others idle meanwhile.

A block is one round that is not timed and then as many as fill ``seconds``; the order of engines turns from block to
block.  Foreign load is that of everything but the engine under the clock, idle rivals included; a block with more than
10 % of it is kept, marked and not counted, and made up for up to ``EXTRA`` times.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from .jobs import Job
from .meter import Reading, below, memory

CLEAN = 0.10
"""Foreign load up to which a block counts."""
EXTRA = 3
WORKER = Path(__file__).with_name("worker.py")
THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Entrant:
    """An engine as it enters: what the table calls it, its worker and knobs, and as what it counts.

    ``counts`` is a peer (plain, flower, pfl), ``own fp32``, ``own bf16``, or empty for what only stands beside.
    """

    label: str
    kind: str
    knobs: Mapping[str, str] = field(default_factory=dict)
    counts: str = ""


@dataclass(frozen=True)
class Block:
    """Its turn, seconds per round, rounds, and the share of the machine that others used."""

    turn: int
    seconds: float
    rounds: int
    foreign: float

    @property
    def clean(self) -> bool:
        """Whether it counts."""
        return self.foreign <= CLEAN


@dataclass
class Result:
    """What became of an entrant; ``failed`` says why there is nothing."""

    entrant: Entrant
    job: Job
    accuracy: float = float("nan")
    about: str = ""
    failed: str = ""
    blocks: list[Block] = field(default_factory=list)
    memory: float = 0.0
    peak: float = 0.0

    @property
    def clean(self) -> list[float]:
        """Seconds per round of the blocks that count."""
        return [block.seconds for block in self.blocks if block.clean]

    @property
    def counted(self) -> list[float]:
        """The clean blocks, or all where none is clean; the table marks that."""
        return self.clean or [block.seconds for block in self.blocks]

    @property
    def seconds(self) -> float:
        """Median seconds per round."""
        return median(self.counted) if self.blocks else float("nan")

    def ratio(self, over: Result) -> float:
        """How many times faster than ``over``: a ratio of medians."""
        return over.seconds / self.seconds

    def ratios(self, over: Result) -> tuple[float, float]:
        """Least and greatest ratio among blocks of the same turn, those clean in both if there are any."""
        theirs = {block.turn: block for block in over.blocks}
        pairs = [(block, theirs[block.turn]) for block in self.blocks if block.turn in theirs]
        clean = [(a, b) for a, b in pairs if a.clean and b.clean]
        found = [b.seconds / a.seconds for a, b in clean or pairs]
        return (min(found), max(found)) if found else (float("nan"), float("nan"))


class Runner:
    """The parent's end of one worker."""

    def __init__(self, entrant: Entrant, job: Job, log: Path, patience: float) -> None:
        self.result, self.patience = Result(entrant, job), patience
        asked, self._ask = os.pipe()
        self._told, told = os.pipe()
        words = [sys.executable, "-W", "ignore", str(WORKER), str(asked), str(told)]
        clean = {name: value for name, value in os.environ.items() if name not in THREAD_SETTINGS}
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                words, pass_fds=(asked, told), env=clean, stdout=sink, stderr=sink, start_new_session=True
            )
        os.close(asked), os.close(told)
        self._rest = b""
        self.rounds = 1
        self._send(kind=entrant.kind, knobs=dict(entrant.knobs), job=asdict(job))

    def warm(self, seconds: float) -> None:
        """Wait until it has trained the job's rounds; then learn how many fill a block."""
        first = self._answer()
        if first:
            self.result.accuracy, self.result.about = first["accuracy"], first["about"]
            self._send(rounds=3)
            probe = self._answer()
            if probe:
                self.rounds = max(2, min(500, round(3 * seconds / probe["seconds"])))

    def block(self, turn: int) -> None:
        """One block, with the load of others."""
        if self.result.failed:
            return
        self._send(rounds=1)
        self._answer()
        before = Reading.of(self.process.pid)
        self._send(rounds=self.rounds)
        told = self._answer()
        foreign = Reading.of(self.process.pid).foreign(before)
        if told:
            self.result.blocks.append(Block(turn, told["seconds"] / self.rounds, self.rounds, foreign))
            held, peak = memory(self.process.pid)
            self.result.memory, self.result.peak = max(self.result.memory, held), max(self.result.peak, peak)

    def dismiss(self) -> None:
        """Ask it to end."""
        if not self.result.failed:
            self._send(rounds=0)

    def close(self, grace: float) -> None:
        """What has not ended in ``grace`` seconds is killed, its children with it."""
        tree = [self.process.pid, *below(self.process.pid)]
        try:
            self.process.wait(timeout=1 if self.result.failed else grace)
        except subprocess.TimeoutExpired:
            for pid in tree:
                _kill(pid)
            self.process.wait()
        os.close(self._ask), os.close(self._told)

    def _send(self, **what: Any) -> None:
        try:
            os.write(self._ask, (json.dumps(what) + "\n").encode())
        except BrokenPipeError:
            self.result.failed = self.result.failed or "the worker ended (see its log)"

    def _answer(self) -> dict[str, Any]:
        """The next line; empty if it failed, which the result then says."""
        end = time.monotonic() + self.patience
        while b"\n" not in self._rest and not self.result.failed:
            ready, _, _ = select.select([self._told], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(self._told, 65536) if ready else b""
            if not piece:
                self.result.failed = "the worker ended" if ready else f"no answer within {self.patience:.0f} s"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        said: dict[str, Any] = json.loads(line) if line else {}
        if "error" in said:
            self.result.failed = said["error"]
            return {}
        return said


def race(
    entries: Sequence[tuple[Entrant, Job]], blocks: int, seconds: float, log: Path, say: Callable[[str], None]
) -> list[Result]:
    """Start all, warm up one after the other, then time them in turn."""
    runners: list[Runner] = []
    grace = 2.0  # for those that an interrupt finds at work
    try:
        for entrant, job in entries:
            runners.append(runner := Runner(entrant, job, log, patience=600))
            runner.warm(seconds)
            say(f"  {job.name}: {entrant.label}: {runner.result.failed or f'accuracy {runner.result.accuracy:.4f}'}")
        for number in range(blocks + EXTRA):
            wanting = [r for r in runners if number < blocks or len(r.result.clean) < blocks]
            for runner in _turned(wanting, number):
                runner.block(number)
        grace = 30.0
    finally:
        for runner in runners:
            runner.dismiss()
        for runner in runners:
            runner.close(grace)
    return [runner.result for runner in runners]


def _turned(runners: list[Runner], by: int) -> list[Runner]:
    cut = by % len(runners) if runners else 0
    return runners[cut:] + runners[:cut]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
