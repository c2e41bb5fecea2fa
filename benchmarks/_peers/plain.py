"""The loop a good user would write: one client after another, torch.optim.SGD, two threads, data in memory.

Knobs: ``precision`` (fp32, or bf16 by autocast), ``layout`` (contiguous or channels-last), ``threads``.
"""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .jobs import Job
from .peer import Peer


class Plain(Peer):
    """FedAvg: load the global weights, train, add up the results, divide."""

    def __init__(self, job: Job, precision: str = "fp32", layout: str = "contiguous", threads: str = "2") -> None:
        torch.set_num_threads(int(threads))
        torch.manual_seed(0)
        self.job, self.bf16, self.last = job, precision == "bf16", layout == "channels-last"
        self.model = job.module()
        if self.last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.weights = copy.deepcopy(self.model.state_dict())
        self.data = {site: self._placed(*job.of(site)) for site in range(job.sites)}
        self.round = 0

    def _placed(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return (x.contiguous(memory_format=torch.channels_last) if self.last else x), y

    def run(self, rounds: int) -> float:
        """Time whole rounds, aggregation included."""
        began = time.perf_counter()
        for _ in range(rounds):
            self.round += 1
            self._advance(self.job.members(self.round))
        return time.perf_counter() - began

    def _advance(self, cohort: list[int]) -> None:
        total = {name: torch.zeros_like(value) for name, value in self.weights.items()}
        for site in cohort:
            self.model.load_state_dict(self.weights)
            train(self.model, *self.data[site], self.job, self.bf16)
            for name, value in self.model.state_dict().items():
                total[name] += value / len(cohort)
        self.weights = total

    def accuracy(self) -> float:
        """With the global weights."""
        self.model.load_state_dict(self.weights)
        return self.job.accuracy(self.model)


def train(model: nn.Module, x: Tensor, y: Tensor, job: Job, bf16: bool = False) -> None:
    """One epoch of SGD on shuffled batches, as every tutorial has it."""
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=job.lr)
    for index in torch.randperm(len(y)).split(job.batch):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(model(x[index]), y[index])
        loss.backward()
        optimiser.step()
