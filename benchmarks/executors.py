"""Two workers against one: a study of single-thread trainings, serial and in processes, in turns.

    python benchmarks/executors.py [--trainings 24] [--rounds 20] [--workers 2] [--turns 3]

Every run is a fresh process and an empty folder.  A ratio is of wall-clock times of the runs themselves, without the
start of Python; ``cpu`` is user and system time of all its processes, so that a machine with other work on it shows: in
quiet the wall-clock time of two workers is half the cpu time.  The load average stands beside every run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any


def study(trainings: int, rounds: int) -> dict[str, Any]:
    """One training a seed, one attack on each model."""
    return {
        "name": "case",
        "threads": 1,
        "seeds": list(range(trainings)),
        "data": {"kind": "digits", "sites": 5, "partition": "iid"},
        "model": {"kind": "cnn", "width": 8},
        "federation": {"kind": "fed-avg", "rounds": rounds, "batch": 32, "lr": 0.1, "engine": "loop"},
        "attacks": ["loss-threshold"],
    }


def case(table: dict[str, Any], executor: str, workers: int) -> None:
    """Run it here; one line of JSON."""
    from consilium import Study

    with tempfile.TemporaryDirectory() as folder:
        outcome = Study.of(table).run(folder, quiet=True, executor=executor, workers=workers).outcome
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    print(json.dumps({"seconds": outcome.seconds, "cpu": cpu, "trained": outcome.trained, "load": os.getloadavg()[0]}))


def measured(table: dict[str, Any], executor: str, workers: int) -> dict[str, Any]:
    """The same in a process of its own."""
    words = [sys.executable, str(Path(__file__)), "--case", json.dumps([table, executor, workers])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Take turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case(*json.loads(options.case))
        return
    table, ratios = study(options.trainings, options.rounds), []
    for turn in range(options.turns):
        one, many = measured(table, "serial", 1), measured(table, "processes", options.workers)
        ratios.append(one["seconds"] / many["seconds"])
        for name, run in (("serial", one), ("processes", many)):
            print(f"{turn}  {name:<9}  {run['seconds']:6.1f} s  cpu {run['cpu']:6.1f} s  load {run['load']:.1f}")
    print(f"{options.workers} workers: {median(ratios):.2f} times as fast (turns: {[round(r, 2) for r in ratios]})")


if __name__ == "__main__":
    main()
