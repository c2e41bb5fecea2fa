"""The ordinary gradient rule: shuffled batches, the mean of their per-example losses.  It claims no guarantee.

Each epoch is a fresh permutation cut into batches of B, the last one shorter: the inner loop of FedAvg's pseudocode.
Source: McMahan et al. 2017, arXiv:1602.05629, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.gradient import Gradient, GradientOracle, GradientRule, Objective, Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records

__all__ = ["MeanGradient"]


@dataclass(frozen=True)
class MeanGradient(GradientRule):
    """Mean over a shuffled batch."""

    def schedule(self, asked: Schedule) -> Schedule:
        """As asked."""
        return asked

    def step_charge(self, n: int, schedule: Schedule) -> None:
        """None: no guarantee is claimed."""

    def oracle(
        self, records: Records, network: Network, objective: Objective, schedule: Schedule, stream: Stream
    ) -> GradientOracle:
        """Epochs of shuffled batches."""
        return _MeanOracle(records, network, objective, schedule, stream)


class _MeanOracle(GradientOracle):
    """One round's batches, in order."""

    def __init__(
        self, records: Records, network: Network, objective: Objective, schedule: Schedule, stream: Stream
    ) -> None:
        self.records, self.network, self.objective, self.stream = records, network, objective, stream
        self.batch = schedule.batch or len(records)
        self.steps = schedule.epochs * -(-len(records) // self.batch)
        self._done = 0
        self._batches = self._shuffled(schedule.epochs)

    def _shuffled(self, epochs: int) -> Iterator[Tensor]:
        for epoch in range(epochs):
            order = torch.randperm(len(self.records), generator=self.stream.child("order", epoch).generator())
            yield from torch.split(order, self.batch)

    def __call__(self, params: Tensor, buffers: Tensor) -> Gradient:
        """The mean gradient of the next batch."""
        index = next(self._batches)
        x = self.records.x[index].to(params.device)
        y = self.records.y[index].to(params.device)
        own = self.stream.child("step", self._done)
        self._done += 1
        ready = self.objective.prepare(
            lambda inputs: self.network.logits(params, buffers, inputs), x, y, own.child("prepare").generator()
        )
        at, after = params.detach().requires_grad_(), buffers.clone()
        with scoped(own.child("forward")):
            losses = self.objective.losses(lambda inputs: self.network.logits(at, after, inputs, training=True), ready)
        (value,) = torch.autograd.grad(losses.mean(), at)
        return Gradient(value, after)

    def charge(self) -> None:
        """None: no guarantee is claimed."""
