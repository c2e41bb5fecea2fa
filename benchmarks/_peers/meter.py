"""Who used the machine while something was timed, and how much memory it held: /proc, Linux only.

    foreign = (busy time of all cores - CPU time of the engine's processes and of this one) / (cores x wall time)

Busy time is user + nice + system + irq + softirq + steal of /proc/stat, so what the host takes away counts as foreign.
Source: proc(5).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Reading:
    """Clocks at one moment, in seconds: the wall's, all cores' busy time, and that of one process tree."""

    wall: float
    busy: float
    own: float

    @staticmethod
    def of(pid: int) -> Reading:
        """Now; own is what the tree below ``pid`` and this process have spent."""
        return Reading(time.perf_counter(), _busy(), _spent(pid) + time.process_time())

    @staticmethod
    def here() -> Reading:
        """Now; own is what this process alone has spent."""
        return Reading(time.perf_counter(), _busy(), time.process_time())

    def foreign(self, before: Reading) -> float:
        """Share of the machine that others used since ``before``; at least 0 (clocks tick in hundredths)."""
        cores = os.cpu_count() or 1
        rest = (self.busy - before.busy) - (self.own - before.own)
        return max(0.0, rest / (cores * (self.wall - before.wall)))


def memory(pid: int) -> tuple[float, float]:
    """MiB of the tree below ``pid``: held now, shared pages divided (PSS), and the sum of each process's peak."""
    tree = [pid, *below(pid)]
    held = sum(_kib(process, "smaps_rollup", "Pss:") for process in tree)
    peak = sum(_kib(process, "status", "VmHWM:") for process in tree)
    return held / 1024, peak / 1024


def processor() -> str:
    """The processor's name."""
    lines = (PROC / "cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _busy() -> float:
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, (PROC / "stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / TICK


def _spent(pid: int) -> float:
    """CPU seconds of ``pid``, of its living descendants, and of those it has waited for."""
    return sum(sum(map(int, fields[11:15])) for fields in map(_stat, (pid, *below(pid))) if fields) / TICK


def below(pid: int) -> Iterator[int]:
    """All living descendants of ``pid``."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        fields = _stat(int(entry.name)) if entry.name.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    queue = list(children.get(pid, ()))
    while queue:
        yield (here := queue.pop())
        queue += children.get(here, ())


def _stat(pid: int) -> list[str] | None:
    """What follows the name in /proc/PID/stat: state, parent, ...; None if the process has gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _kib(pid: int, file: str, field: str) -> int:
    try:
        lines = (PROC / str(pid) / file).read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)
