"""Memory of one round against the number of its sites: peak resident memory above the base.

    python benchmarks/merge_memory.py [--sites 10 100 1000] [--parameters 5000000] [--engine loop]

A linear model of that many float32 parameters, one record and one local step at every site, all sites in one round of
FedAvg: local work is as small as it can be, so that what is measured is what the server and the engine hold.  Each case
runs in a process of its own.  The base is its resident memory when sites, model and round stand ready; the peak is
VmHWM, which is set back at that moment (Linux), so the base is in it.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Pools, Records, Site
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.client.local_rounds import LocalRounds
from consilium.federate.client.participant import Participant, SiteState
from consilium.federate.engines.engine import Engine
from consilium.federate.engines.loop import Loop
from consilium.federate.engines.pool import Pool
from consilium.federate.round.round import FederatedRound, RoundState, ServerHalf
from consilium.federate.round.run_exchange import run_exchange
from consilium.federate.round.weighted_mean import WeightedMean
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

CLASSES = 10


def federation(sites: int, parameters: int) -> tuple[FederatedRound, RoundState]:
    """A round of ``sites`` sites with a record each, and the state before it."""
    width = parameters // CLASSES
    network, algorithm = Network(nn.Sequential(nn.Flatten(), nn.Linear(width, CLASSES, bias=False))), FedAvg(lr=0.1)
    record = Records.of(torch.rand(1, width), torch.zeros(1, dtype=torch.long))  # shared: it is not what is measured
    people = {f"site-{k}": Site(f"site-{k}", Pools(record, record, record)) for k in range(sites)}
    stream, schedule = Stream(0), algorithm.schedule(Schedule(1, 1, 1))
    half = ServerHalf(
        tuple(people),
        1.0,
        algorithm,
        WeightedMean(),
        (),
        CLASSES,
        SingleLabel(),
        stream,
        weights=dict.fromkeys(people, 1.0),
    )
    rule, objective = MeanGradient(), TaskLoss(SingleLabel())
    participants = {
        name: Participant(site, record, 1.0, network, algorithm, objective, rule, schedule, (), stream)
        for name, site in people.items()
    }
    return FederatedRound(half, LocalRounds(participants)), RoundState(algorithm.start(network, sites))


def case(sites: int, parameters: int, engine: str, kept: bool) -> None:
    """One round here; prints the base and the peak in MB, and seconds."""
    exchange, start = federation(sites, parameters)
    if kept:  # a server that does not know the weights beforehand has to hold every update
        exchange = exchange.served(replace(exchange.half, weights={}))
    with made(engine, exchange) as carrying:
        base = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        began = time.perf_counter()
        after = run_exchange(carrying, exchange, start, {}, SiteState, "round 1")
        seconds, peak = time.perf_counter() - began, resident("VmHWM")
    if len(after.shares) != sites:
        raise SystemExit(f"{len(after.shares)} of {sites} sites were merged")
    print(f"{base:.0f} {peak:.0f} {seconds:.1f}")


def made(engine: str, exchange: FederatedRound) -> Engine:
    """The engine of that name; a pool has two workers, and their memory is not in the figure."""
    return Loop() if engine == "loop" else Pool(Loop(), [exchange.site_half], workers=2)


def resident(what: str) -> float:
    """Resident memory of this process in MB: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024 / 1e6


def main() -> None:
    """Print the table."""
    words = argparse.ArgumentParser()
    words.add_argument("--case", type=int)
    words.add_argument("--sites", type=int, nargs="+", default=[10, 100, 1000])
    words.add_argument("--parameters", type=int, default=5_000_000)
    words.add_argument("--engine", choices=["loop", "pool"], default="loop")
    words.add_argument("--kept", action="store_true", help="hold all updates, as a rule that reads each does")
    asked = words.parse_args()
    if asked.case is not None:
        case(asked.case, asked.parameters, asked.engine, asked.kept)
        return
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores; "
        f"{asked.parameters:,} parameters, {asked.engine}{', all updates held' if asked.kept else ''}\n"
    )
    print("| sites in the round | all updates, MB | base, MB | peak above the base, MB | seconds |")
    print("|--:|--:|--:|--:|--:|")
    for sites in asked.sites:
        options = ["--parameters", str(asked.parameters), "--engine", asked.engine, *["--kept"] * asked.kept]
        done = subprocess.run(
            [sys.executable, __file__, "--case", str(sites), *options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"the case of {sites} sites ended with exit status {done.returncode}")
        base, peak, seconds = map(float, done.stdout.split())
        updates = sites * asked.parameters * 4 / 1e6
        print(f"| {sites:,} | {updates:,.0f} | {base:,.0f} | {peak - base:,.0f} | {seconds:,.1f} |", flush=True)


if __name__ == "__main__":
    main()
