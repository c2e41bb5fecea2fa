"""Does bfloat16 cost accuracy?  The same trainings in fp32 and in bf16, paired by seed.

    python benchmarks/precision.py [--seeds 3] [--rounds 20] [--out FOLDER]

Prints, per model, the test accuracy of both with the difference bf16 - fp32: its mean over seeds and a 95 % Student t
interval.  The same seed gives both the same data, start and batches.  An interval of a few seeds is wide; "equal" means
no more than that zero lies inside.  The speed of both is in federation.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from consilium import Study

JOBS: Mapping[str, dict[str, Any]] = {
    "CNN, Fashion-MNIST": {
        "data": {"kind": "fashion-mnist", "sites": 100, "non-members": 0.0, "public": 0.0},
        "model": {"kind": "cnn", "width": 16},
        "federation": {"kind": "fed-avg", "lr": 0.1, "fraction": 0.1},
    },
    "ResNet-9, PneumoniaMNIST": {
        "data": {"kind": "pneumonia-mnist", "sites": 3, "non-members": 0.0},
        "model": {"kind": "resnet9", "width": 16},
        "federation": {"kind": "fed-avg", "lr": 0.05},
    },
}


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    out = asked.out or Path(tempfile.mkdtemp(prefix="consilium-precision-"))
    print("| model | fp32 | bf16 | bf16 - fp32, mean (95 % interval) | seeds |\n|---|---|---|---|--:|")
    for number, (name, job) in enumerate(JOBS.items()):
        rounds = asked.rounds if number == 0 else max(2, asked.rounds // 2)
        found = {p: accuracies(job, p, asked.seeds, rounds, out / f"{number}-{p}") for p in ("fp32", "bf16")}
        print(row(name, found["fp32"], found["bf16"]), flush=True)


def accuracies(job: Mapping[str, Any], precision: str, seeds: int, rounds: int, out: Path) -> list[float]:
    """Test accuracy of every seed's model."""
    federation = {**job["federation"], "rounds": rounds, "precision": precision, "layout": "channels-last"}
    federation |= {"engine": "pool", "assess": "cohort", "assess-every": 5}
    tables = {"name": "precision", **job, "federation": federation, "seeds": list(range(seeds))}
    results = Study.of(tables).run(out, quiet=True)
    if results.outcome.failed:
        raise SystemExit(f"failed: {results.outcome.failed}")
    told = [json.loads(p.read_text()) for p in (results.folder / "cells").glob("*/evidence.json")]
    found = {e["seeds"][0]: next(m["value"] for m in e["utility"] if m["name"] == "accuracy") for e in told}
    return [found[seed] for seed in range(seeds)]


def row(name: str, fp32: list[float], bf16: list[float]) -> str:
    """One line of the table."""
    steps = [b - a for a, b in zip(fp32, bf16, strict=True)]
    mean, n = statistics.fmean(steps), len(steps)
    half = float(student.ppf(0.975, n - 1)) * statistics.stdev(steps) / n**0.5 if n > 1 else float("nan")
    plain, fast = (" ".join(f"{v:.4f}" for v in values) for values in (fp32, bf16))
    return f"| {name} | {plain} | {fast} | {mean:+.4f} ({mean - half:+.4f} to {mean + half:+.4f}) | {n} |"


if __name__ == "__main__":
    main()
