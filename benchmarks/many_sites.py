"""Cost against the number of sites: peak memory, and seconds per sampled site, at equal cohorts.

    python benchmarks/many_sites.py [--sites 100 1000 10000] [--rounds 40] [--cohort 50] [--blocks 3]

Fashion-MNIST, every site with 5 or 6 records whatever the number of sites, so that a sampled site has the same work;
an MLP of 51k parameters; `fed-avg` keeps nothing at a site, `scaffold` a vector.  Each case runs in a process of its
own; memory is its ru_maxrss, with the data set, and that of its largest child.  Cases alternate over blocks; ratios are
of medians over rounds, to the smallest number of sites, by the clock and in seconds of the main process.  The first
round, which starts things up, is not counted.
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
from itertools import pairwise
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


def case(table: dict[str, Any]) -> dict[str, Any]:
    """Run it here: seconds of the clock and of this process between the ends of rounds, and peak memory in MB.

    What lies between two ends is all that a round costs: local work, merge, states, log and checkpoint.
    """
    from consilium.federate.train import train
    from consilium.study.build import assessing, exchange, start
    from consilium.study.engines import engine_for
    from consilium.study.study import Study

    began = time.perf_counter()
    plan = Study.of(table).plan()
    node = next(iter(plan.trainings.values()))
    data, net = plan.materials.consortium(0), plan.materials.network(0)
    whole = exchange(plan.spec, node.arm, 0, None, data, net)
    judging = assessing(whole)
    marks = [(time.perf_counter(), time.process_time())]
    built, rounds = marks[0][0] - began, table["federation"]["rounds"]
    with tempfile.TemporaryDirectory() as folder:
        out, begin = Path(folder), start(plan.spec, node.arm, data, net)
        with engine_for(plan.spec.federation.shape, "cpu", whole, judging, begin, out) as carrying:
            train(carrying, whole, judging, begin, rounds, out,
                  lambda *_: marks.append((time.perf_counter(), time.process_time())),
                  assess_every=rounds, assess_cohort=True)  # fmt: skip
        kept = sum(path.stat().st_size for path in out.rglob("states/*"))
    clock, own = ([after[k] - before[k] for before, after in pairwise(marks)][1:] for k in (0, 1))
    peak, worker = (
        resource.getrusage(who).ru_maxrss / 1000 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return {"clock": clock, "own": own, "built": built, "peak": peak, "worker": worker, "kept": kept / 1e6}


def measured(table: dict[str, Any]) -> dict[str, Any]:
    """One case in a process of its own: memory is never given back by a process that goes on."""
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(table)],
        check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def main() -> None:
    """Print the table."""
    words = argparse.ArgumentParser()
    words.add_argument("--case", type=json.loads)
    words.add_argument("--sites", type=int, nargs="+", default=[100, 1000, 10_000])
    words.add_argument("--algorithms", nargs="+", default=["fed-avg", "scaffold"])
    words.add_argument("--engines", nargs="+", default=["loop", "pool"])
    words.add_argument("--rounds", type=int, default=40)
    words.add_argument("--cohort", type=int, default=50)
    words.add_argument("--blocks", type=int, default=3)
    asked = words.parse_args()
    if asked.case:
        print(json.dumps(case(asked.case)))
        return
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}; {asked.cohort} sites a round, {asked.rounds} rounds, {asked.blocks} blocks\n"
    )
    print("| algorithm | engine | sites | built in s | ms per sampled site | ratio | CPU ms | ratio | peak MB "
          "| a worker's | states on disk, MB |")  # fmt: skip
    print("|---" * 11 + "|")
    for algorithm in asked.algorithms:
        for engine in asked.engines:
            found: dict[int, list[dict[str, Any]]] = {n: [] for n in asked.sites}
            for _ in range(asked.blocks):
                for n in asked.sites:
                    found[n].append(measured(study(n, algorithm, engine, asked.rounds + 1, asked.cohort)))
            for n in asked.sites:
                print(
                    f"| {algorithm} | {engine} | {n} | {row(found[n], found[asked.sites[0]], asked.cohort)} |",
                    flush=True,
                )


def row(held: list[dict[str, Any]], first: list[dict[str, Any]], cohort: int) -> str:
    """Medians over all rounds of all blocks, and their ratio to those of the first case; the largest peaks."""
    cells = [f"{median(h['built'] for h in held):.1f}"]
    for what in ("clock", "own"):
        mine, base = (median(s for h in of for s in h[what]) / cohort for of in (held, first))
        cells += [f"{mine * 1000:.2f}", f"{mine / base:.2f}"]
    return " | ".join([*cells, *(f"{max(h[what] for h in held):.0f}" for what in ("peak", "worker", "kept"))])


if __name__ == "__main__":
    main()
