"""pfl-research: its SimulatedBackend and FederatedAveraging, with callbacks, platform metrics and evaluation off.

Knobs: ``processes`` (1, or several joined by torch.distributed as its own launcher does) and ``threads`` in each.
It keeps the order of a user's records, so it pays no shuffle.  Source: pfl 0.6, https://github.com/apple/pfl-research
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from _peers.jobs import Job
from _peers.peer import Peer


class Judged(nn.Module):
    """The job's module with the two methods that pfl asks for."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(self.inner(x), y)

    def metrics(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Mean loss; asked for in the first round only."""
        from pfl.metrics import Weighted

        with torch.no_grad():
            return {"loss": Weighted(float(self.loss(x, y)), len(y))}


class Pfl(Peer):
    """One pfl process, and the others of its ring if there are any."""

    def __init__(self, job: Job, processes: str = "1", threads: str = "2") -> None:
        self.job, self.n, self.threads = job, int(processes), int(threads)
        ports = [_free_port() for _ in range(self.n)]
        addresses = ",".join(f"localhost:{port}" for port in ports)
        self.others = [self._follower(rank, addresses) for rank in range(1, self.n)]
        if self.n > 1:
            os.environ |= {"PFL_WORKER_ADDRESSES": addresses, "PFL_WORKER_RANK": "0"}
        self.core = Core(job, self.threads)

    def run(self, rounds: int) -> float:
        """Everyone runs the same central iterations; rank 0 measures."""
        for other in self.others:
            assert other.stdin is not None
            other.stdin.write(f"{rounds}\n")
            other.stdin.flush()
        return self.core.run(rounds)

    def accuracy(self) -> float:
        """Of the central model."""
        return self.job.accuracy(self.core.module.inner)

    def about(self) -> str:
        """How it was set up."""
        return f"{self.n} processes x {self.threads} threads"

    def close(self) -> None:
        """The others end when their input ends."""
        for other in self.others:
            assert other.stdin is not None
            other.stdin.close()
            other.wait(timeout=30)

    def _follower(self, rank: int, addresses: str) -> subprocess.Popen[str]:
        words = [sys.executable, __file__, json.dumps(asdict(self.job)), str(self.threads)]
        ring = {**os.environ, "PFL_WORKER_ADDRESSES": addresses, "PFL_WORKER_RANK": str(rank)}
        return subprocess.Popen(words, env=ring, stdin=subprocess.PIPE, text=True)


class Core:
    """Model, data and algorithm of one pfl process; pfl reads the ring from the environment when it is imported."""

    def __init__(self, job: Job, threads: int) -> None:
        from pfl.aggregate.simulate import SimulatedBackend
        from pfl.algorithm.base import NNAlgorithmParams
        from pfl.algorithm.federated_averaging import FederatedAveraging
        from pfl.data.dataset import Dataset
        from pfl.data.federated_dataset import FederatedDataset
        from pfl.data.sampling import get_user_sampler
        from pfl.hyperparam import NNTrainHyperParams
        from pfl.model.pytorch import PyTorchModel

        torch.set_num_threads(threads)
        np.random.seed(0)  # pfl draws users from numpy's global generator, the same ones in every process
        self.module = Judged(job.module())
        user = cache(lambda site: Dataset(list(job.of(site)), user_id=str(site)))
        data = FederatedDataset(user, get_user_sampler("minimize_reuse", list(range(job.sites))))
        self.backend = SimulatedBackend(data, data)
        central = torch.optim.SGD(self.module.parameters(), lr=1.0)
        self.model = PyTorchModel(self.module, torch.optim.SGD, central)
        self.algorithm = FederatedAveraging()
        self.params = NNAlgorithmParams(
            0, evaluation_frequency=10**9, train_cohort_size=job.cohort, val_cohort_size=None
        )
        self.local = NNTrainHyperParams(job.batch, local_num_epochs=1, local_learning_rate=job.lr)

    def run(self, rounds: int) -> float:
        """Run on from where the last call ended; iteration 0 evaluates, which the warm-up takes."""
        done = self.params.central_num_iterations + rounds
        self.params = replace(self.params, central_num_iterations=done)
        began = time.perf_counter()
        self.algorithm.run(
            self.params, self.backend, self.model, self.local, self.local, send_metrics_to_platform=False
        )
        return time.perf_counter() - began


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def follow() -> None:
    """A process of the ring that is not the first: as many iterations as each line says."""
    core = Core(Job(**json.loads(sys.argv[1])), int(sys.argv[2]))
    for line in sys.stdin:
        core.run(int(line))


if __name__ == "__main__":
    follow()
