"""What this machine can do at most: matrix products a second, and what each job asks for.

Peak is the best of several products of two n x n matrices (2 n^3 operations), n = 2048 unless one such product takes
longer than the probe (a processor that emulates bf16); a job's operations are counted by torch.utils.flop_counter on
one real training step and scaled to a round.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from _peers.jobs import Job

SIDE, SMALLEST = 2048, 128
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def peaks(seconds: float = 1.0) -> dict[str, float]:
    """GFLOP/s of a matrix product, in one process of one or two threads and in two processes (their sum)."""
    (alone,) = _children([(kind, threads) for kind in TYPES for threads in (1, 2)], 1, seconds)
    both = _children([(kind, 1) for kind in TYPES], 2, seconds)
    together = {f"{name}, 2 processes x 1 thread": sum(one[f"{name}, 1"] for one in both) for name in TYPES}
    return {**{f"{name} thread{'s' * name.endswith('2')}": rate for name, rate in alone.items()}, **together}


def operations(job: Job) -> float:
    """Floating-point operations of one round."""
    module, (x, y) = job.module(), job.of(0)
    x, y = x[: job.batch], y[: job.batch]
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(module(x), y).backward()
    return counter.get_total_flops() / len(y) * job.records * job.cohort


def rate(kind: str, threads: int, seconds: float) -> float:
    """GFLOP/s of the best product within ``seconds``, or of the last one that was begun in time."""
    torch.set_num_threads(threads)
    side, best, end = SMALLEST, 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        took = _product(side, TYPES[kind])
        best = max(best, 2 * side**3 / took / 1e9)
        if side < SIDE and 8 * took < end - time.perf_counter():  # twice the side: eight times the operations
            side *= 2
    return best


def _product(side: int, kind: torch.dtype) -> float:
    a, b = (torch.randn(side, side).to(kind) for _ in range(2))
    start = time.perf_counter()
    a @ b
    return time.perf_counter() - start


def _children(what: list[tuple[str, int]], count: int, seconds: float) -> list[dict[str, float]]:
    """The rates that ``count`` processes find at the same time."""
    words = [sys.executable, __file__, json.dumps(what), str(seconds)]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [json.loads(child.communicate(timeout=120)[0]) for child in started]


if __name__ == "__main__":
    print(json.dumps({f"{kind}, {n}": rate(kind, n, float(sys.argv[2])) for kind, n in json.loads(sys.argv[1])}))
