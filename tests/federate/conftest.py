"""A small federation on made-up records: three sites of different sizes, two classes, a planted signal."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Pools, Records, Site
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.client.local_rounds import LocalRounds
from consilium.federate.client.participant import Participant
from consilium.federate.round.round import FederatedRound, ServerHalf
from consilium.federate.round.weighted_mean import WeightedMean
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.models.mlp import MLP
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

SCHEDULE = Schedule(3, 2, 8)
SIZES = (20, 33, 7)
quadratic = runpy.run_path(str(Path(__file__).with_name("quadratics.py")))


def records(n: int, seed: int) -> Records:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 6, generator=generator)
    return Records.of(x, (x[:, 0] + 0.3 * x[:, 1] > 0.6).long())


@pytest.fixture
def sites() -> tuple[Site, ...]:
    return tuple(
        Site(f"site-{k}", Pools(records(n, k), records(6, 100 + k), records(5, 200 + k))) for k, n in enumerate(SIZES)
    )


@pytest.fixture
def network() -> Network:
    with scoped(Stream(3).child("init")):
        return Network(MLP(hidden=5).build((6,), 2))


@pytest.fixture
def federation(sites: tuple[Site, ...], network: Network) -> Callable[..., FederatedRound]:
    """A round over ``sites`` in which whatever is named is replaced."""

    def make(algorithm=None, schedule=SCHEDULE, fraction=1.0, defences=(), merge=None, **changes):
        algorithm = algorithm or FedAvg(lr=0.1, momentum=0.9)
        stream = Stream(11).child("train")
        half = ServerHalf(
            tuple(s.id for s in sites),
            fraction,
            algorithm,
            merge or WeightedMean(),
            tuple(defences),
            2,
            SingleLabel(),
            stream,
        )
        people = {
            s.id: Participant(
                s,
                s.records.train,
                float(len(s.records.train)),
                network,
                algorithm,
                TaskLoss(SingleLabel()),
                MeanGradient(),
                algorithm.schedule(schedule),
                tuple(defences),
                stream,
            )
            for s in sites
        }
        people = {name: replace(p, **changes) for name, p in people.items()}
        return FederatedRound(half, LocalRounds(people))

    return make


@pytest.fixture
def quadratics():
    """``quadratics(sites, size, spread, seed)``: sites with known optima."""
    return quadratic["Quadratics"]


@pytest.fixture
def cohorts():
    """``cohorts(rounds)``: pairs of four sites, each of them at least once."""
    return quadratic["cohorts"]
