"""How long one exchange takes between real processes: a server and three sites on the loopback, TLS and node keys on.

The model trains in milliseconds, so a round is what the carrying costs: question and answer of every site, assessments
included.  Blocks with and without messages kept ahead (see `deploy/transport/flower.py`) take turns in one federation;
the first round of a block, in which a sleeping node may have to wake, is not counted.  Needs the extra `flower`.

    python benchmarks/deployed_exchange.py [--blocks 3] [--rounds 8]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from _peers.meter import Reading, processor

from consilium import Study
from consilium.deploy.server.server import serve
from consilium.deploy.transport.certificates import make_server_keys, make_site_key
from consilium.deploy.transport.processes import free_port
from consilium.deploy.transport.server_options import ServerOptions
from consilium.study.spec.parse import parse

SITES = 3


@dataclass
class Row:
    """Seconds of every counted round, and the foreign load of each block."""

    seconds: list[float] = field(default_factory=list)
    foreign: list[float] = field(default_factory=list)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    chosen = parser.parse_args()
    rows: dict[int, Row] = {0: Row(), 2: Row()}
    with tempfile.TemporaryDirectory() as name:
        folder, address = Path(name), f"127.0.0.1:{free_port()}"
        sites = [_site(folder, address, i) for i in range(SITES)]
        try:
            for block in range(chosen.blocks):
                for ahead, row in rows.items():
                    _block(folder, address, f"ahead-{ahead}-{block}", chosen.rounds, ahead, row)
        finally:
            for site in sites:
                site.terminate()
                site.wait()
    _print(rows)


def _site(folder: Path, address: str, number: int) -> subprocess.Popen[bytes]:
    site = f"site-{number}"
    if not number:
        make_server_keys(folder / "keys", ["127.0.0.1"])
    private, public = make_site_key(site, folder / site)
    (folder / "keys" / "sites" / public.name).write_bytes(public.read_bytes())
    words = [
        sys.executable,
        "-m",
        "consilium",
        "join",
        address,
        "--site",
        site,
        "--key",
        str(private),
        "--data",
        "study",
    ]
    words += ["--ca", str(folder / "keys" / "ca.crt"), "--state", str(folder / site / "state")]
    return subprocess.Popen(words, stderr=subprocess.DEVNULL)


def _block(folder: Path, address: str, name: str, rounds: int, ahead: int, row: Row) -> None:
    study = Study(
        name=name,
        data={"kind": "digits", "sites": SITES, "partition": "iid"},
        model="logistic",
        federation={"kind": "fed-avg", "rounds": rounds},
        options={"threads": 1},
    )
    before = Reading.of(os.getpid())
    store, outcome = serve(
        parse(study.table()), folder / "out", ServerOptions(address, folder / "keys", ahead=ahead), "bench", _quiet
    )
    row.foreign.append(Reading.of(os.getpid()).foreign(before))
    assert not outcome.failed, outcome.failed
    (log,) = store.folder.glob("trainings/*/rounds.jsonl")
    row.seconds += [json.loads(line)["seconds"] for line in log.read_text().splitlines()][1:]


def _quiet(line: str) -> None:
    """Say nothing."""


def _print(rows: dict[int, Row]) -> None:
    print(f"{SITES} sites, TLS and keys, {processor()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    for ahead, row in rows.items():
        values = " ".join(f"{s:.2f}" for s in sorted(row.seconds))
        foreign = ", ".join(f"{share:.0%}" for share in row.foreign)
        print(f"{ahead} messages ahead: median {median(row.seconds):.2f} s a round, n = {len(row.seconds)}: {values}")
        print(f"    load of other processes in its blocks: {foreign}")


if __name__ == "__main__":
    main()
