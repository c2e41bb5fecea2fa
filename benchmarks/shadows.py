"""Thirty-two shadow models of a CNN: side by side in worker processes, against one after the other.

    python benchmarks/shadows.py [--shadows 32] [--rounds 10] [--json]

Both train the same shadows (same masks, same seeds) of the same defended cell, through the product's own path, and the
files they leave must hold the same bits.  Prints seconds of both and their ratio.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from consilium import Study
from consilium.core.inclusion import inclusion
from consilium.federate.engines.pool import cores
from consilium.study.evaluate.shadow_training import Retraining
from consilium.study.store.store import Store

TABLES = {
    "name": "shadows",
    "data": {"kind": "digits", "sites": 2, "non-members": 0.4},
    "model": {"kind": "cnn", "width": 16},
    "threads": 1,
}


def main() -> None:
    """Train both ways, and print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shadows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        sequential = seconds(1, asked.shadows, asked.rounds, Path(out) / "one")
        pooled = seconds(cores(), asked.shadows, asked.rounds, Path(out) / "all")
        same = contents(Path(out) / "one") == contents(Path(out) / "all")
    if not same:
        raise SystemExit("the two ways made different shadows")
    told = {"shadows": asked.shadows, "workers": cores(), "sequential": sequential, "pool": pooled}
    told["ratio"] = sequential / pooled
    print(json.dumps(told) if asked.json else "\n".join(f"{k:>12}  {v:.4g}" for k, v in told.items()))


def seconds(workers: int, count: int, rounds: int, out: Path) -> float:
    """Wall time of ``count`` shadows by ``workers`` processes."""
    federation = {"kind": "fed-avg", "rounds": rounds, "local-epochs": 2, "batch": 32, "lr": 0.1, "workers": workers}
    plan = Study.of({**TABLES, "federation": federation}).plan()
    cell, store = plan.cells[0], Store.of(out, "shadows")
    made = Retraining(plan, cell, store, tuple(s.id for s in plan.materials.consortium(0).sites), lambda: None)
    pool = made.pool
    masks = inclusion(pool.site, pool.sizes, pool.records.units, count, made.stream)
    torch.set_num_threads(1)
    began = time.perf_counter()
    made.fit(masks, [made.stream.child("seed", i).number() for i in range(count)])
    return time.perf_counter() - began


def contents(out: Path) -> dict[str, bytes]:
    """Every shadow's file, by name."""
    return {path.name: path.read_bytes() for path in sorted(out.rglob("shadows/*.safetensors"))}


if __name__ == "__main__":
    main()
