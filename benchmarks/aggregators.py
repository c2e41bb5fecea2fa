"""Robust merge rules beside byzfl: seconds and memory of one merge of many updates.

    python benchmarks/aggregators.py [--sites 100] [--parameters 1000000] [--repeats 3] [--rules krum median ...]

Every case is a process of its own with one thread: it draws the updates, a fifth of the sites (f) forged, and merges
them once.  Seconds are of the processor, as other processes may run.  Ours and byzfl's take turns, ``--repeats`` times;
the table has the median of each and their ratio.  byzfl is handed a finished ``(n, d)`` tensor, ours a list of updates.
Memory is the peak resident memory of the merge above that of the updates (VmHWM, set back before
the merge; Linux).

byzfl 0.0.11 (MIT) imports torchvision without using it here; where that is missing, an empty stand-in takes its place.
Without byzfl its columns stay empty.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import subprocess
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from consilium.core.catalogue import find, load_entry
from consilium.core.merge import Cohort
from consilium.core.random import Stream
from consilium.core.update import Update
from consilium.defend.merge._clipped_centre import CENTRE

SHARE = 5
"""One site in so many is forged."""


@dataclass(frozen=True)
class Case:
    """A rule: its kind and knobs here, and its class and knobs in byzfl, where it has one; f stands for "f"."""

    knobs: dict[str, object]
    peer: str = ""
    peer_knobs: dict[str, object] | None = None


F = "f"
CASES = {
    "median": Case({}, "Median"),
    "trimmed-mean": Case({"byzantine": F}, "TrMean", {"f": F}),
    "krum": Case({"byzantine": F}, "Krum", {"f": F}),
    "multi-krum": Case({"byzantine": F}, "MultiKrum", {"f": F}),
    "geometric-median": Case({}, "GeometricMedian", {"nu": 1e-6, "T": 30}),
    "centred-clipping": Case({"clip": 100.0}, "CenteredClipping", {"L": 1, "tau": 100.0}),
    "nearest-neighbour-mixing": Case({"byzantine": F}, "NNM", {"f": F}),
    "bucketing": Case({"size": 2}, "Bucketing", {"s": 2}),
    "bulyan": Case({"byzantine": F}),
    "divide-and-conquer": Case({"byzantine": F}),
    "flame": Case({}),
    "foolsgold": Case({}),
    "fl-trust": Case({}),
    "robust-learning-rate": Case({}),
    "noisy-mean": Case({}),
}


def filled(knobs: dict[str, object], forged: int) -> dict[str, object]:
    """``knobs`` with the number of forged sites where it is named."""
    return {name: forged if value == F else value for name, value in knobs.items()}


def rows(sites: int, parameters: int) -> Tensor:
    """Honest updates around one direction, and forged ones far off: ``(sites, parameters)``."""
    generator = torch.Generator().manual_seed(1)
    table = torch.empty(sites, parameters)
    direction = torch.randn(parameters, generator=generator)
    for k in range(sites):
        scale = -20.0 if k % SHARE == 1 else 1.0
        table[k] = scale * (direction + torch.randn(parameters, generator=generator))
    return table


def own(rule: str, table: Tensor, forged: int) -> Callable[[], object]:
    """One merge here, of the rows of ``table`` as updates, without a copy."""
    updates = [Update(f"site-{k:04}", 1, 1.0, {"delta": row}) for k, row in enumerate(table)]
    entry = load_entry(find(rule, "defend/merge"))(**filled(CASES[rule].knobs, forged))
    among, root = Cohort(len(updates), 1), {"delta": table[0].clone()}
    merge = entry.merge_for(among, Stream(0)).at(lambda: root)
    memory = {CENTRE: torch.zeros_like(table[0])} if rule == "centred-clipping" else {}  # byzfl's begins at 0 too
    return lambda: merge.merge(iter(updates), memory, float(len(updates)))


def peer(rule: str, table: Tensor, forged: int) -> Callable[[], object]:
    """One call of byzfl's on ``table``."""
    case = CASES[rule]
    module = byzfl()
    made = getattr(module, case.peer)(**filled(case.peer_knobs or {}, forged))
    return lambda: made(table)


def byzfl() -> types.SimpleNamespace:
    """Its aggregators and pre-aggregators by name."""
    if importlib.util.find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.transforms", "torchvision.datasets"):
            sys.modules[name] = types.ModuleType(name)
    sys.modules["byzfl.benchmark"] = types.ModuleType("byzfl.benchmark")  # it trains models, and is not measured
    from byzfl.aggregators import aggregators, preaggregators

    return types.SimpleNamespace(**vars(aggregators), **{n: getattr(preaggregators, n) for n in ("NNM", "Bucketing")})


def case(words: argparse.Namespace) -> None:
    """One merge in this process: seconds, and MB above the updates."""
    torch.set_num_threads(1)
    table = rows(words.sites, words.parameters)
    merge = (own if words.engine == "own" else peer)(words.case, table, words.sites // SHARE)
    base = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    began = time.process_time()
    merge()
    print(f"{time.process_time() - began:.4f} {resident('VmHWM') - base:.0f}")


def resident(what: str) -> float:
    """Resident memory of this process in MB: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024 / 1e6


def measured(rule: str, engine: str, words: argparse.Namespace) -> tuple[float, float]:
    """Seconds and MB of one case, in a process of its own."""
    size = ["--sites", str(words.sites), "--parameters", str(words.parameters)]
    done = subprocess.run(
        [sys.executable, __file__, "--case", rule, "--engine", engine, *size],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if engine == "byzfl" else None,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        check=False,
    )
    if done.returncode and engine == "byzfl":
        return float("nan"), float("nan")  # it indexes (n, n - f, d) numbers for NNM: 32 GB here
    if done.returncode:
        raise SystemExit(f"{rule} ended with exit status {done.returncode}")
    seconds, memory = map(float, done.stdout.split())
    return seconds, memory


def line(rule: str, words: argparse.Namespace, peers: bool) -> str:
    """One row of the table."""
    engines = ["own", "byzfl"] if peers and CASES[rule].peer else ["own"]
    figures = {engine: list[tuple[float, float]]() for engine in engines}
    for _ in range(words.repeats):
        for engine in engines:
            figures[engine].append(measured(rule, engine, words))
    seconds = {engine: median(s for s, _ in some) for engine, some in figures.items()}
    memory = {engine: max(m for _, m in some) for engine, some in figures.items()}
    cells = [rule, f"{seconds['own']:.2f}", f"{memory['own']:,.0f}"]
    if "byzfl" in engines:
        cells += [f"{seconds['byzfl']:.2f}", f"{memory['byzfl']:,.0f}", f"{seconds['byzfl'] / seconds['own']:.1f}"]
    else:
        cells += ["", "", ""]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    words = argparse.ArgumentParser()
    words.add_argument("--case", choices=list(CASES))
    words.add_argument("--engine", choices=["own", "byzfl"], default="own")
    words.add_argument("--sites", type=int, default=100)
    words.add_argument("--parameters", type=int, default=1_000_000)
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--rules", nargs="+", choices=list(CASES), default=list(CASES))
    asked = words.parse_args()
    if asked.case is not None:
        case(asked)
        return
    peers = importlib.util.find_spec("byzfl") is not None
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}; {asked.sites} sites x {asked.parameters:,} parameters "
        f"({asked.sites * asked.parameters * 4 / 1e6:,.0f} MB), f = {asked.sites // SHARE}, one thread, "
        f"median of {asked.repeats}\n"
    )
    print("| rule | seconds | MB above | byzfl, seconds | MB above | byzfl / ours |")
    print("|---|--:|--:|--:|--:|--:|")
    for rule in asked.rules:
        print(line(rule, asked, peers), flush=True)


if __name__ == "__main__":
    main()
