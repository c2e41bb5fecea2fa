"""Consilium's own engines, through the same building blocks as a study: Participant, FederatedRound, run_exchange.

``kind`` is the engine as a study names it, or ``product`` for all that train() does in a round: the engine named by the
knob ``engine``, the assessment of every site, the log and the checkpoint.  Other knobs:
``workers`` (0: one per core), ``compile`` (yes), ``precision`` and ``layout`` as a study names them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from consilium.core.gradient import Schedule
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Pools, Records, Site
from consilium.core.workspace import Compute
from consilium.federate.algorithms.fed_avg import FedAvg
from consilium.federate.client.local_rounds import LocalRounds
from consilium.federate.client.participant import Participant, SiteState
from consilium.federate.client.vectorised_clients import why_not_vectorised
from consilium.federate.engines.auto import fastest
from consilium.federate.engines.engine import Engine
from consilium.federate.engines.loop import Loop
from consilium.federate.engines.pool import Pool
from consilium.federate.engines.stacked import Stacked
from consilium.federate.round.federated_evaluation import Assessing
from consilium.federate.round.round import FederatedRound, RoundState, ServerHalf
from consilium.federate.round.run_exchange import first_work, run_exchange
from consilium.federate.round.weighted_mean import WeightedMean
from consilium.federate.train import train
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel

from .jobs import CLASSES, SEED, Job
from .peer import Peer

LONG = 10_000
"""Rounds that ``auto`` is told of: a training worth starting processes for."""


class Own(Peer):
    """One engine of Consilium at work."""

    def __init__(
        self,
        job: Job,
        kind: str,
        engine: str = "",
        workers: str = "0",
        compile: str = "no",
        precision: str = "fp32",
        layout: str = "contiguous",
    ) -> None:
        self.job, self.product = job, kind == "product"
        self.network = Network(job.module(), Compute(cast(Any, precision), cast(Any, layout)))
        self.algorithm = FedAvg(lr=job.lr)
        self.sites = {f"site-{k}": self._site(k) for k in range(job.sites)}
        people = {site: self._participant(site) for site in self.sites}
        self.exchange = FederatedRound(self._server(), LocalRounds(people, compile == "yes"))
        self.assessing = Assessing(self.algorithm, people, SingleLabel())
        self.state = RoundState(self.algorithm.start(self.network, job.sites))
        self.engine = carried(engine or kind, int(workers), self.exchange, self.assessing, self.state)
        self.states: dict[str, SiteState] = {}
        self.folder = tempfile.TemporaryDirectory(prefix="consilium-bench-") if self.product else None

    def run(self, rounds: int) -> float:
        """Rounds of the engine alone, or of train()."""
        began = time.perf_counter()
        if self.folder is not None:
            self._train(self.state.server.round + rounds)
        else:
            for _ in range(rounds):
                name = f"round {self.state.server.round + 1}"
                self.state = run_exchange(self.engine, self.exchange, self.state, self.states, SiteState, name)
        return time.perf_counter() - began

    def accuracy(self) -> float:
        """Of the model that everyone gets."""
        module = self.network.module_at(self.state.server.params, self.state.server.buffers)
        return self.job.accuracy(module)

    def about(self) -> str:
        """What the engine is, or chose."""
        what = self.engine.figures()
        return what["kind"] + (f" x {what['workers']} workers" if "workers" in what else "")

    def close(self) -> None:
        """Let go of worker processes."""
        self.engine.close()
        if self.folder is not None:
            self.folder.cleanup()

    def _train(self, rounds: int) -> None:
        assert self.folder is not None
        folder = Path(self.folder.name)
        done = train(self.engine, self.exchange, self.assessing, self.state, rounds, folder, lambda *_: None)
        self.state = done.state

    def _site(self, k: int) -> Site:
        """The product assesses every site on records of its own: here equal parts of the test records."""
        x, y = self.job.of(k)
        nothing = Records.of(x[:0], y[:0])
        return Site(f"site-{k}", Pools(Records.of(x, y), self._judged_by(k) if self.product else nothing, nothing))

    def _judged_by(self, k: int) -> Records:
        x, y = self.job.test()
        each = len(y) // self.job.sites
        return Records.of(x[k * each : (k + 1) * each], y[k * each : (k + 1) * each])

    def _participant(self, name: str) -> Participant:
        site = self.sites[name]
        return Participant(
            site=site,
            train=site.records.train,
            weight=float(len(site.records.train)),
            network=self.network,
            algorithm=self.algorithm,
            objective=TaskLoss(SingleLabel()),
            rule=MeanGradient(),
            schedule=Schedule(rounds=10**6, epochs=1, batch=self.job.batch),
            defences=(),
            stream=Stream(SEED).child("train"),
        )

    def _server(self) -> ServerHalf:
        return ServerHalf(
            roster=tuple(self.sites),
            fraction=self.job.cohort / self.job.sites,
            algorithm=self.algorithm,
            merge=WeightedMean(),
            defences=(),
            classes=CLASSES,
            task=SingleLabel(),
            stream=Stream(SEED).child("train"),
        )


def carried(name: str, workers: int, whole: FederatedRound, judging: Assessing, start: RoundState) -> Engine:
    """The engine of that name: ``loop``, ``pool`` of loops, ``stacked`` (a pool of stacks), one ``stack``, ``auto``."""
    makers: dict[str, Callable[[], Engine]] = {
        "loop": Loop,
        "pool": lambda: Pool(Loop(), (whole.site_half, judging.site_half), workers),
        "stacked": lambda: Pool(Stacked(), (whole.site_half, judging.site_half), workers),
    }
    if name == "stack":
        return Stacked()
    if name != "auto":
        return makers[name]()
    if why_not_vectorised(tuple(whole.sites.values())) is not None:
        del makers["stacked"]
    return fastest(makers, first_work(whole, start, SiteState), LONG)[0]
