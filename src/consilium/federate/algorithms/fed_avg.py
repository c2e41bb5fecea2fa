"""Federated averaging: local epochs of gradient descent, then the weighted mean of what they changed.

    at site k:  w <- w - lr g(w)  for E epochs of batches of B, from w_t;   delta_k = w - w_t
    server:     w_{t+1} = w_t + sum_k (n_k / n) delta_k

Source: McMahan et al. 2017, arXiv:1602.05629, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from consilium.core.algorithm import Algorithm, Broadcast, Kept, Server, Work
from consilium.core.entry import check, check_used
from consilium.core.gradient import Gradient, Schedule
from consilium.core.update import Aggregate, Payload
from consilium.learn.optimiser import descend

__all__ = ["FedAvg"]


@dataclass(frozen=True)
class FedAvg(Algorithm):
    """Local epochs, then the weighted mean of the changes."""

    lr: float = 0.1
    momentum: float = 0.0
    optimiser: Literal["sgd", "adam"] = "sgd"

    def __post_init__(self) -> None:
        check(0 < self.lr < 100, "lr", self.lr, "a learning rate above 0 and below 100")
        check(0 <= self.momentum < 1, "momentum", self.momentum, "0 to 1, 1 excluded")
        check_used(self, "momentum", self.optimiser != "adam", 'optimiser = "adam"')

    def schedule(self, schedule: Schedule) -> Schedule:
        """As asked."""
        return schedule

    def begin(self, broadcast: Broadcast, kept: Kept, steps: int) -> Work:
        """From the shared parameters; the optimiser starts afresh every round."""
        return Work(broadcast.params, broadcast.buffers, planned=steps)

    def step(self, work: Work, gradient: Gradient) -> Work:
        """One step of the local optimiser."""
        return descend(work, gradient, self.optimiser, self.lr, self.momentum)

    def finish(self, broadcast: Broadcast, work: Work) -> tuple[Payload, Kept]:
        """``delta (d,)`` and the change of the ``buffers (b,)``."""
        return {"delta": work.params - broadcast.params, "buffers": work.buffers - broadcast.buffers}, Kept()

    def advance(self, server: Server, aggregate: Aggregate) -> Server:
        """Add the mean change."""
        params = server.params + aggregate.payload["delta"]
        buffers = server.buffers + aggregate.payload["buffers"]
        return replace(server, round=server.round + 1, params=params, buffers=buffers)
