"""Flower's simulation (ray backend), through its Message API and kept alive between blocks.

Knobs: ``actors`` (ray workers of one thread each) and ``wait``:

    shipped   FedAvg.start, as its tutorials have it; the grid sleeps 0.1 s between looks for replies
    polled    the same strategy's configure_train and aggregate_train in a loop of our own that looks every 2 ms

Data and model are cached in the actors.  Source: flwr 1.41, https://flower.ai/docs/framework/
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from dataclasses import asdict
from functools import cache
from typing import Any

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - else its workers give way to all else on the machine

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import Tensor, nn

from .jobs import Job
from .peer import Peer
from .plain import train

POLL = 0.002
"""Seconds between two looks for replies in the ``polled`` loop."""


class Flower(Peer):
    """The simulation runs in a thread; its ServerApp waits for orders."""

    def __init__(self, job: Job, wait: str = "shipped", actors: str = "2") -> None:
        logging.getLogger("flwr").setLevel(logging.WARNING)
        self.job, self.wait, self.actors = job, wait, int(actors)
        self.arrays = ArrayRecord(job.module().state_dict())
        self.orders: queue.Queue[int] = queue.Queue()
        self.answers: queue.Queue[float | BaseException] = queue.Queue()
        self.thread = threading.Thread(target=self._simulate, daemon=True)
        self.thread.start()

    def run(self, rounds: int) -> float:
        """Order rounds and wait for the seconds they took, as the ServerApp measured them."""
        self.orders.put(rounds)
        answer = self.answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def accuracy(self) -> float:
        """With the server's arrays."""
        module = self.job.module()
        module.load_state_dict(self.arrays.to_torch_state_dict())
        return self.job.accuracy(module)

    def about(self) -> str:
        """How it was set up."""
        return f"{self.actors} actors x {2 // self.actors} thread, {self.wait}"

    def close(self) -> None:
        """End the ServerApp, and with it ray."""
        self.orders.put(0)
        self.thread.join(timeout=30)

    def _simulate(self) -> None:
        server = ServerApp()
        server.main()(self._serve)
        resources = {"num_cpus": 2 / self.actors, "num_gpus": 0.0}
        backend: Any = {"init_args": {"num_cpus": 2, "log_to_driver": False}, "client_resources": resources}
        try:
            run_simulation(server, client(), num_supernodes=self.job.sites, backend_config=backend)
        except BaseException as error:  # the main thread waits for an answer
            self.answers.put(error)

    def _serve(self, grid: Grid, context: Context) -> None:
        share, size = self.job.cohort / self.job.sites, self.job.cohort
        strategy = FedAvg(share, 0.0, min_train_nodes=size, min_available_nodes=self.job.sites)
        about = ConfigRecord({"job": json.dumps(asdict(self.job)), "threads": 2 // self.actors})
        while (rounds := self.orders.get()) > 0:
            began = time.perf_counter()
            try:
                self._advance(strategy, grid, about, rounds)
            except BaseException as error:
                self.answers.put(error)
                raise
            self.answers.put(time.perf_counter() - began)

    def _advance(self, strategy: FedAvg, grid: Grid, about: ConfigRecord, rounds: int) -> None:
        if self.wait == "shipped":
            made = strategy.start(grid, self.arrays, num_rounds=rounds, timeout=600, train_config=about)
            self.arrays = _whole(made.arrays)
            return
        for number in range(1, rounds + 1):
            asked = strategy.configure_train(number, self.arrays, about, grid)
            made_arrays, _ = strategy.aggregate_train(number, exchanged(grid, list(asked)))
            self.arrays = _whole(made_arrays)


def exchanged(grid: Grid, asked: list[Message]) -> list[Message]:
    """Push messages and pull their replies, looking every 2 ms."""
    open_, replies = set(grid.push_messages(asked)), []
    while open_:
        came = list(grid.pull_messages(open_))
        replies += came
        open_ -= {message.metadata.reply_to_message_id for message in came}
        if open_:
            time.sleep(POLL)
    return replies


def client() -> ClientApp:
    """A ClientApp whose data and model stay in the actor."""
    app = ClientApp()
    app.train()(learn)
    return app


def learn(message: Message, context: Context) -> Message:
    """One site's round."""
    about = message.content["config"]
    torch.set_num_threads(int(about["threads"]))
    job, module, records = _held(str(about["job"]), int(context.node_config["partition-id"]))
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    train(module, *records, job)
    told = MetricRecord({"num-examples": len(records[1])})
    return Message(RecordDict({"arrays": ArrayRecord(module.state_dict()), "metrics": told}), reply_to=message)


@cache
def _held(job: str, site: int) -> tuple[Job, nn.Module, tuple[Tensor, Tensor]]:
    made = _job(job)
    return made, _module(job), made.of(site)


@cache
def _job(text: str) -> Job:
    return Job(**json.loads(text))


@cache
def _module(text: str) -> nn.Module:
    return _job(text).module()


def _whole(arrays: ArrayRecord | None) -> ArrayRecord:
    if arrays is None:
        raise RuntimeError("Flower returned no model: every client failed (see the log of the worker)")
    return arrays
