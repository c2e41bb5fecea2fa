"""Federated SGD: one gradient on all of a site's records a round, averaged and applied by the server.

    at site k:  g_k = gradient of the mean loss over all n_k records
    server:     w_{t+1} = w_t - lr sum_k (n_k / n) g_k

Source: McMahan et al. 2017, arXiv:1602.05629, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from consilium.core.algorithm import Algorithm, AlgorithmState, Broadcast, Server, Work
from consilium.core.entry import check
from consilium.core.gradient import Gradient, Schedule
from consilium.core.update import Aggregate, Payload

__all__ = ["FedSGD"]


@dataclass(frozen=True)
class FedSGD(Algorithm):
    """One full-batch gradient per site and round."""

    lr: float = 0.1
    """Learning rate of the server's step on the mean gradient."""

    def __post_init__(self) -> None:
        check(0 < self.lr < 100, "lr", self.lr, "a learning rate above 0 and below 100")

    def schedule(self, schedule: Schedule) -> Schedule:
        """One step on all records, whatever epochs and batch the study sets."""
        return Schedule(schedule.rounds, epochs=1, batch=0)

    def begin(self, broadcast: Broadcast, state: AlgorithmState, steps: int) -> Work:
        """At the shared parameters."""
        return Work(broadcast.params, broadcast.buffers, planned=steps)

    def step(self, work: Work, gradient: Gradient) -> Work:
        """Remember the gradient; the parameters stay where they are."""
        return replace(work, buffers=gradient.buffers, steps=work.steps + 1, memory={"gradient": gradient.value})

    def finish(self, broadcast: Broadcast, work: Work) -> tuple[Payload, AlgorithmState]:
        """``delta (d,)``: the negative gradient."""
        return {"delta": -work.memory["gradient"], "buffers": work.buffers - broadcast.buffers}, AlgorithmState()

    def advance(self, server: Server, aggregate: Aggregate) -> Server:
        """One server step along the mean."""
        params = server.params.add(aggregate.payload["delta"], alpha=self.lr)
        buffers = server.buffers + aggregate.payload["buffers"]
        return replace(server, round=server.round + 1, params=params, buffers=buffers)
