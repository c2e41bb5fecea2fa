"""What a step of DP-SGD costs over one of plain SGD: Consilium, Opacus (hooks, ghost) and the old vmap, in one run.

    python benchmarks/dp_sgd.py              models, layers, what a step is made of, memory: twelve minutes on 2 cores
    python benchmarks/dp_sgd.py --rows "CNN 26k, B 64" --turns 20
    python benchmarks/dp_sgd.py --markdown docs/results/dp-sgd-speed.md      and write the tables into that page

All methods step in turn on the same records: as many steps as fill 50 ms of plain SGD (at most 8) after one that is
not timed, or one where one fills them.  A figure is the median over turns of the seconds of one step, a ratio is one of
medians, its range that of the ratios of one turn.  A turn in which others used more than 10 % of the machine is made up
for, up to three times as many turns.  Memory is each method's alone, in its own process.  Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from _peers.meter import Reading, memory, processor
from _peers.phases import PHASES, phases
from _peers.private_steps import METHODS, Step, Task
from _peers.private_tasks import LAYERS, MODELS
from _peers.tables import put

from consilium.core.charge import Composed, Gaussian, PoissonSampled

BUSY = 0.10
PLAIN = ("plain", "plain, channels-last")
ALONE = ("plain", "Consilium", "Opacus hooks", "Opacus ghost", "Consilium, by vmap")


def main(words: Sequence[str] | None = None) -> None:
    """Time, print, write."""
    asked = _asked(words)
    torch.set_num_threads(2)
    if asked.alone:
        print(json.dumps(alone({**MODELS, **LAYERS}[asked.alone[0]], asked.alone[1])))
        return
    lines = [_about()]
    for title, tasks in (("models", MODELS), ("layers", LAYERS)):
        chosen = [task for name, task in tasks.items() if not asked.rows or name in asked.rows or title in asked.rows]
        if chosen:
            lines += ["", *table(chosen, asked.turns)]
    named = [name for name in MODELS if not asked.rows or name in asked.rows or "phases" in asked.rows]
    if named:
        lines += ["", *phases_table([MODELS[name] for name in named], asked.turns)]
    named = [name for name in MODELS if not asked.rows or name in asked.rows or "memory" in asked.rows]
    if named and not asked.no_memory:
        lines += ["", *memory_table(named)]
    print("\n".join(lines))
    if asked.markdown:
        put(asked.markdown, [*lines, ""])


def table(tasks: Sequence[Task], turns: int) -> list[str]:
    """One line per task: milliseconds of the faster plain step, and everyone's ratio to it."""
    private = [m for m in METHODS if m not in PLAIN]
    lines = ["| step of | plain, ms | other layout | " + " | ".join(private) + " | sampling | turns (busy) | load |"]
    lines += ["|---|--:|--:|" + "--:|" * (len(private) + 3)]
    for task in tasks:
        seconds, loads = race(task, turns)
        print(
            f"{task.name}: { ({m: round(statistics.median(s) * 1e3, 2) for m, s in seconds.items()}) }", file=sys.stderr
        )
        first, second = sorted(PLAIN, key=lambda m: statistics.median(seconds[m]))
        base = seconds[first]
        cells = [f"{statistics.median(base) * 1e3:.2f}", _ratio(seconds[second], base)]
        cells += [_ratio(seconds[m], base) if m in seconds else "fails" for m in private]
        share = sampling(task) / statistics.median(seconds["Consilium"])
        busy = sum(load > BUSY for load in loads)
        cells += [f"{share:.1%}", f"{len(loads)} ({busy})", f"{statistics.median(loads):.0%} (to {max(loads):.0%})"]
        lines.append(f"| {task.name}{' *' if first == PLAIN[1] else ''} | " + " | ".join(cells) + " |")
    return [*lines, "", "`*`: the faster plain step is channels-last.  Brackets: least and greatest ratio of one turn."]


def race(task: Task, turns: int) -> tuple[Mapping[str, list[float]], list[float]]:
    """Seconds of a step, per method and turn, and the share of the machine that others used in each turn."""
    steps: dict[str, Step] = {}
    loads: list[float] = []
    for name, make in METHODS.items():
        try:
            steps[name] = make(task)
            for number in range(2):
                steps[name](number)
        except (RuntimeError, NotImplementedError, ValueError) as error:
            print(f"{task.name}: {name} fails: {str(error)[:200]}", file=sys.stderr)
            steps.pop(name, None)
    many = _many(steps["plain"])
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    number = dict.fromkeys(steps, 3)
    began, clean = time.perf_counter(), 0
    while clean < turns and len(loads) < 3 * turns and (clean < 3 or time.perf_counter() - began < 100):
        before, order = Reading.here(), list(steps)
        turn = {}
        for name in order[len(loads) % len(order) :] + order[: len(loads) % len(order)]:
            if many > 1:
                steps[name](number[name])
            start = time.perf_counter()
            for i in range(1, many + 1):
                steps[name](number[name] + i)
            turn[name] = (time.perf_counter() - start) / many
            number[name] += many + 1
        loads.append(Reading.here().foreign(before))
        clean += loads[-1] <= BUSY
        for name, value in turn.items():
            seconds[name].append(value)
    keep = [i for i, load in enumerate(loads) if load <= BUSY] if clean >= 3 else range(len(loads))
    return {name: [values[i] for i in keep] for name, values in seconds.items()}, loads


def _many(step: Step) -> int:
    """Steps that fill about 50 ms, at most 8: a small model's single step is mostly waking threads and caches."""
    start = time.perf_counter()
    step(2)
    return min(8, max(1, int(0.05 / (time.perf_counter() - start))))


def sampling(task: Task) -> float:
    """Seconds of a Poisson sample and of the charge that the accountant is handed."""
    records, spent = task.records(), []
    for number in range(20):
        start = time.perf_counter()
        index = task.sample(records, number)
        assert len(records.x[index])
        Composed(PoissonSampled(0.1, Gaussian(1.0)), number)
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def phases_table(tasks: Sequence[Task], turns: int) -> list[str]:
    """What a step is made of, as shares of a plain step: where the rest of a ratio lies."""
    lines = ["| shares of a plain step | plain: forward, backward, update | " + " | ".join(PHASES) + " | sum |"]
    lines += ["|---|---|" + "--:|" * (len(PHASES) + 1)]
    for task in tasks:
        mine, plain = phases(task, 2 * turns)
        whole = sum(plain.values())
        first = ", ".join(f"{seconds / whole:.2f}" for seconds in plain.values())
        cells = [f"{mine[name] / whole:.2f}" for name in PHASES]
        lines.append(f"| {task.name} | {first} | " + " | ".join(cells) + f" | {sum(mine.values()) / whole:.2f} |")
    return lines


def memory_table(names: Sequence[str]) -> list[str]:
    """Peak resident MiB above the state before the first step, each method in a process of its own."""
    lines = ["| peak MiB above the start | " + " | ".join(ALONE) + " | Consilium / hooks |", "|---|" + "--:|" * 6]
    for name in names:
        peaks = []
        for method in ALONE:
            command = [sys.executable, __file__, "--alone", name, method]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks.append(json.loads(done.stdout.splitlines()[-1]))
        cells = [f"{p:.0f}" for p in peaks]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {peaks[1] / peaks[2]:.0%} |")
    return lines


def alone(task: Task, method: str) -> float:
    """Peak MiB of four steps above what was held before the first."""
    torch.nn.functional.relu(torch.zeros(10))
    step = METHODS[method](task)
    before, _ = memory(os.getpid())
    for number in range(4):
        step(number)
    return memory(os.getpid())[1] - before


def _ratio(mine: Sequence[float], base: Sequence[float]) -> str:
    each = [a / b for a, b in zip(mine, base, strict=True)]
    return f"{statistics.median(mine) / statistics.median(base):.2f} ({min(each):.2f}-{max(each):.2f})"


def _about() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "opacus"))
    threads = torch.get_num_threads()
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, {threads} threads, {packages}, Python {sys.version.split()[0]}."
    )


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", nargs="*", default=[], help="names of rows, or models, layers, phases, memory")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--alone", nargs=2, metavar=("ROW", "METHOD"), help="peak memory of one method")
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
