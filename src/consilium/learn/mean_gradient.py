"""The ordinary gradient rule: shuffled batches, the mean of their per-example losses.  It claims no guarantee.

Each epoch is a fresh permutation cut into batches of B, the last one shorter: the inner loop of FedAvg's pseudocode.
Source: McMahan et al. 2017, arXiv:1602.05629, algorithm 1.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.gradient import Batch, Gradient, GradientOracle, GradientRule, Objective, Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records

__all__ = ["MeanGradient", "shuffled"]


@dataclass(frozen=True)
class MeanGradient(GradientRule):
    """Mean over a shuffled batch."""

    def schedule(self, schedule: Schedule) -> Schedule:
        """``schedule`` unchanged."""
        return schedule

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
        self._batches = shuffled(len(records), schedule, stream)
        self.steps = len(self._batches)
        self._done = 0

    def __call__(self, params: Tensor, buffers: Tensor) -> Gradient:
        """The mean gradient of the next batch."""
        index = self._batches[self._done]
        x = self.records.x[index].to(params.device)
        y = self.records.y[index].to(params.device)
        stream = self.stream.child("step", self._done)
        self._done += 1
        ready: Batch = {"x": x, "y": y}
        if not self.objective.plain:
            ready = self.objective.prepare(
                self.network.still_at(params, buffers), x, y, stream.child("prepare").generator()
            )
        # Seeding the global generator costs as much as a small model's step: only where something may read it.
        with nullcontext() if self.network.draws_nothing else scoped(stream.child("forward")):
            gradient = self.network.workspace.gradient(
                params, buffers, lambda predict: self.objective.losses(predict, ready).mean()
            )
        return Gradient(*gradient)

    def charge(self) -> None:
        """None: no guarantee is claimed."""


def shuffled(n: int, schedule: Schedule, stream: Stream) -> list[Tensor]:
    """The batches of one round, as positions in ``n`` records: every record once an epoch."""
    epochs = [torch.randperm(n, generator=stream.child("order", e).generator()) for e in range(schedule.epochs)]
    return [batch for order in epochs for batch in torch.split(order, schedule.batch or max(1, n))]
