"""Cost against the number of sites: peak memory, and seconds per sampled site, at equal cohorts.

    python benchmarks/many_sites.py [--sites 100 1000 10000] [--rounds 40] [--cohort 50]

Fashion-MNIST, every site with 5 or 6 records whatever the number of sites, so that a sampled site has the same work;
an MLP of 51k parameters; `fed-avg` keeps nothing at a site, `scaffold` a vector.  Each case runs in a process of its
own; memory is its ru_maxrss, with the data set, and that of its largest child.  The cases of one algorithm and engine
do a round each in turn, so that all of them meet the same load; a ratio is the median over turns of that to the
smallest number of sites, by the clock and in seconds of the main process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any


def study(sites: int, algorithm: str, engine: str, rounds: int, cohort: int) -> dict[str, Any]:
    """The tables of one case."""
    return {
        "name": "case",
        "threads": 1,
        "data": {
            "kind": "fashion-mnist",
            "sites": sites,
            "public": max(0.0, 1 - sites * 5.7 / 60_000),
            "partition": {"kind": "sizes", "minimum": 5, "maximum": 6},
            "validation": 0.0,
            "non-members": 0.0,
        },
        "model": "mlp",
        "federation": {
            "kind": algorithm,
            "rounds": rounds,
            "fraction": cohort / sites,
            "batch": 5,
            "lr": 0.05,
            "engine": engine,
            "assess": "cohort",
            "assess-every": rounds,
        },
    }


def case(table: dict[str, Any]) -> None:
    """Train here: after every round one line with its seconds, by the clock and of this process; then wait to go on.

    A round is all that lies between: local work, merge, states, log and checkpoint.
    """
    from consilium import Study
    from consilium.federate.train import train
    from consilium.study.build.engine_choice import engine_for
    from consilium.study.build.factory import assessing, exchange, start

    began = time.perf_counter()
    plan = Study.of(table).plan()
    node = next(iter(plan.trainings.values()))
    data, net = plan.materials.consortium(0), plan.materials.network(0)
    whole = exchange(plan.spec, node.arm, 0, None, data, net)
    judging, begin = assessing(whole), start(plan.spec, node.arm, data, net)
    built, rounds = time.perf_counter() - began, table["federation"]["rounds"]
    since = [time.perf_counter(), time.process_time()]

    def ended(*_: object) -> None:
        print(json.dumps([time.perf_counter() - since[0], time.process_time() - since[1]]), flush=True)
        sys.stdin.readline()
        since[:] = [time.perf_counter(), time.process_time()]

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        with engine_for(plan.spec.federation.shape, "cpu", whole, judging, begin, out) as carrying:
            train(carrying, whole, judging, begin, rounds, out, ended, assess_every=rounds, assess_cohort=True)
        kept = sum(path.stat().st_size for path in out.rglob("states/*"))
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak, worker = (resource.getrusage(of).ru_maxrss / 1000 for of in who)
    print(json.dumps({"built": built, "peak": peak, "worker": worker, "kept": kept / 1e6}), flush=True)


class Case:
    """One case in a process of its own, which does a round when it is told to."""

    def __init__(self, table: dict[str, Any]) -> None:
        words = [sys.executable, __file__, "--case", json.dumps(table)]
        own = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own)
        self.told: list[Any] = []

    def hear(self) -> None:
        """Wait for what it has to say."""
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise SystemExit(f"a case ended with exit status {self.process.wait()}")
        self.told.append(json.loads(line))

    def go_on(self) -> None:
        """Let it do its next round, and wait for its end."""
        if self.process.stdin:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        self.hear()


def raced(tables: list[dict[str, Any]], rounds: int) -> list[list[Any]]:
    """What every case told: its rounds but the first two and the last, which judges, and then its sums."""
    cases = [Case(table) for table in tables]
    for one in cases:
        one.hear()
    for _ in range(rounds + 2):
        for one in cases:  # in turn, so that all of them meet the same load
            one.go_on()
    for one in cases:
        one.go_on()
    return [[*one.told[2:-2], one.told[-1]] for one in cases]


def main() -> None:
    """Print the table."""
    words = argparse.ArgumentParser()
    words.add_argument("--case", type=json.loads)
    words.add_argument("--sites", type=int, nargs="+", default=[100, 1000, 10_000])
    words.add_argument("--algorithms", nargs="+", default=["fed-avg", "scaffold"])
    words.add_argument("--engines", nargs="+", default=["loop", "pool"])
    words.add_argument("--rounds", type=int, default=40)
    words.add_argument("--cohort", type=int, default=50)
    asked = words.parse_args()
    if asked.case:
        case(asked.case)
        return
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}; {asked.cohort} sites a round, {asked.rounds} rounds in turn\n"
    )
    print("| algorithm | engine | sites | built in s | ms per sampled site | ratio | CPU ms | ratio | peak MB "
          "| a worker's | states on disk, MB |")  # fmt: skip
    print("|---" * 11 + "|")
    for algorithm in asked.algorithms:
        for engine in asked.engines:
            tables = [study(n, algorithm, engine, asked.rounds + 3, asked.cohort) for n in asked.sites]
            told = raced(tables, asked.rounds)
            for n, mine in zip(asked.sites, told, strict=True):
                print(f"| {algorithm} | {engine} | {n} | {row(mine, told[0], asked.cohort)} |", flush=True)


def row(mine: list[Any], first: list[Any], cohort: int) -> str:
    """Medians over rounds, and those of the ratios to the first case's round of the same turn; the peaks."""
    cells = [f"{mine[-1]['built']:.1f}"]
    for k in (0, 1):
        ratios = [own[k] / base[k] for own, base in zip(mine[:-1], first[:-1], strict=True)]
        cells += [f"{median(own[k] for own in mine[:-1]) / cohort * 1000:.2f}", f"{median(ratios):.2f}"]
    return " | ".join([*cells, *(f"{mine[-1][what]:.0f}" for what in ("peak", "worker", "kept"))])


if __name__ == "__main__":
    main()
