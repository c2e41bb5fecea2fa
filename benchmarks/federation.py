"""How fast a round of federated averaging is: Consilium's engines against a plain loop, Flower and pfl-research.

    ./scripts/bench                                      everything, about 20 minutes on 2 cores
    ./scripts/bench --json OUT.json --markdown docs/results/benchmarks.md       and write the tables into that page
    ./scripts/bench --quick --jobs logistic --engines own                           does it run?

Same records, module, start, batch, rate and cohort for all; nobody evaluates while the clock runs; starting up is not
timed.  How it is measured: docs/results/benchmarks.md.  Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from _peers.jobs import JOBS, SITES, Job, shrunk
from _peers.limits import operations, peaks
from _peers.lineup import ENTRANTS
from _peers.meter import processor
from _peers.race import Entrant, Result, race
from _peers.tables import accuracy_lines, bars_table, job_table, limits_table, put, sites_table

PACKAGES = ("consilium", "torch", "numpy", "flwr", "ray", "pfl")
PEERS = ("plain", "flower", "pfl")


def main(words: Sequence[str] | None = None) -> int:
    """Race, print, write; 1 if one of our own engines failed."""
    asked = arguments().parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the workers are ended too
    limits = measured_limits(asked)
    found: dict[str, list[Result]] = {}
    for name in asked.jobs:
        began = time.monotonic()
        found[name] = race(entries(asked, name), asked.blocks, asked.seconds, asked.log, tell)
        again = peaks(limits["seconds"])  # a moment without load is enough to know the limit
        limits["peaks"] = {what: max(rate, again[what]) for what, rate in limits["peaks"].items()}
        report(asked, limits, found)
        tell("\n".join(shown(name, found[name], limits)) + f"\n{name}: {time.monotonic() - began:.0f} s in all\n")
    tell("\n".join(summary(limits, found)))
    tell(f"workers' own words: {asked.log}")
    own = [r for results in found.values() for r in results if r.entrant.kind not in PEERS]
    return 1 if any(r.failed for r in own) else 0


def arguments() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--jobs", nargs="+", choices=[*JOBS, "sites"], default=[*JOBS, "sites"])
    made.add_argument("--engines", nargs="+", default=[], help="only those with one of these words; own: ours")
    made.add_argument("--blocks", type=int, default=6, help="clean blocks wanted per engine")
    made.add_argument("--seconds", type=float, default=1.5, help="length of a block")
    made.add_argument("--data", choices=["fashion-mnist", "planted"], default="fashion-mnist")
    made.add_argument("--quick", action="store_true", help="tiny jobs, 2 short blocks: does it run?")
    made.add_argument("--json", type=Path, help="write all blocks and facts here")
    made.add_argument("--markdown", type=Path, help="write the tables into this page, between its marks")
    made.add_argument("--log", type=Path, default=Path(tempfile.gettempdir()) / f"consilium-bench-{os.getpid()}.log")
    return made


def entries(asked: argparse.Namespace, name: str) -> list[tuple[Entrant, Job]]:
    """Who races on which job."""
    if asked.quick:
        asked.blocks, asked.seconds = 2, 0.1
    jobs = list(SITES.values()) if name == "sites" else [JOBS[name]]
    if asked.quick:
        jobs = [shrunk(job) for job in jobs[:2]]
    chosen = [e for e in ENTRANTS[name] if not asked.engines or any(matches(e, word) for word in asked.engines)]
    return [(entrant, replace(job, data=asked.data)) for entrant in chosen for job in jobs]


def matches(entrant: Entrant, word: str) -> bool:
    """Whether ``word`` names this entrant: ``own``, ``peers``, a kind, or part of its label."""
    if word in {"own", "peers"}:
        return (entrant.kind in PEERS) == (word == "peers")
    return word == entrant.kind or word in entrant.label


def measured_limits(asked: argparse.Namespace) -> dict[str, Any]:
    """The machine's peaks and the jobs' operations, before anything else runs."""
    jobs = [replace(JOBS[name], data=asked.data) for name in asked.jobs if name in JOBS]
    jobs = [shrunk(job) for job in jobs] if asked.quick else jobs
    seconds = 0.05 if asked.quick else 1.0
    counted = {job.name: operations(job) / 1e9 for job in jobs}
    return {"peaks": peaks(seconds), "seconds": seconds, "operations": counted}


def facts() -> dict[str, Any]:
    """When, on what, with what."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def shown(name: str, results: Sequence[Result], limits: dict[str, Any]) -> list[str]:
    """The table of one job."""
    return sites_table(results) if name == "sites" else job_table(results, limits)


def summary(limits: dict[str, Any], found: dict[str, list[Result]]) -> list[str]:
    """Facts, bars, limits and agreement."""
    what = facts()
    packages = ", ".join(f"{name} {number}" for name, number in what["packages"].items())
    said = f"{what['date']}; {what['processor']}, {what['cores']} cores; Python {what['python']}, {packages}."
    raced = {name: results for name, results in found.items() if name != "sites"}
    return [said, "", *bars_table(raced), *accuracy_lines(raced), *limits_table(limits)]


def report(asked: argparse.Namespace, limits: dict[str, Any], found: dict[str, list[Result]]) -> None:
    """Files are written after every job, so that a broken run leaves what it has."""
    if asked.json:
        results = {name: [_plain(r) for r in results] for name, results in found.items()}
        told = {"facts": facts(), "limits": limits, "quick": asked.quick, "results": results}
        asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if asked.markdown:
        tables = [line for name, results in found.items() for line in shown(name, results, limits)]
        put(asked.markdown, [*summary(limits, found), *tables])


def tell(line: str) -> None:
    """To the terminal, at once."""
    print(line, flush=True)


def _plain(result: Result) -> dict[str, Any]:
    return {**asdict(result), "seconds": result.seconds, "clean": len(result.clean)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
