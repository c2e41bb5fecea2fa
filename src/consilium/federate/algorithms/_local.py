"""What every algorithm shares whose sites descend from the shared parameters and send what changed.

    at site k:  w <- w - lr g(w)  step by step, from w_t;   delta_k = w - w_t
    server:     w_{t+1} = w_t + mean_k delta_k

A subclass states its knobs and overrides what its paper changes.  Buffers (running statistics) are averaged.

Source: McMahan et al. 2017, arXiv:1602.05629, algorithm 1.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, replace

from torch import Tensor

from consilium.core.algorithm import Algorithm, AlgorithmState, Broadcast, Server, Work
from consilium.core.entry import check, check_used
from consilium.core.gradient import Gradient, Schedule
from consilium.core.update import Aggregate, Payload
from consilium.learn.optimiser import Optimiser, descend

__all__ = ["LocalDescent", "moved"]


def moved(server: Server, aggregate: Aggregate, params: Tensor, **memory: Tensor) -> Server:
    """The state after a round that ends at ``params (d,)``; buffers are averaged, named tensors remembered."""
    return replace(
        server,
        round=server.round + 1,
        params=params,
        buffers=server.buffers + aggregate.payload["buffers"],
        memory={**server.memory, **memory},
    )


@dataclass(frozen=True)
class LocalDescent(Algorithm, ABC):
    """Local steps of one optimiser, which starts afresh every round."""

    lr: float
    momentum: float
    optimiser: Optimiser

    def __post_init__(self) -> None:
        """Check the ranges of the three knobs."""
        check(0 < self.lr < 100, "lr", self.lr, "a learning rate above 0 and below 100")
        check(0 <= self.momentum < 1, "momentum", self.momentum, "0 to 1, 1 excluded")
        check_used(self, "momentum", self.optimiser != "adam", 'optimiser = "adam"')

    def schedule(self, schedule: Schedule) -> Schedule:
        """``schedule`` unchanged."""
        return schedule

    def begin(self, broadcast: Broadcast, state: AlgorithmState, steps: int) -> Work:
        """From the shared parameters."""
        return Work(broadcast.params, broadcast.buffers, planned=steps)

    def step(self, work: Work, gradient: Gradient) -> Work:
        """One step of the local optimiser."""
        return self.descend(work, gradient, gradient.value)

    def descend(self, work: Work, gradient: Gradient, value: Tensor) -> Work:
        """One step along ``value (d,)``: the gradient as it was handed in, and what the algorithm adds (LAWS 12)."""
        return descend(work, replace(gradient, value=value), self.optimiser, self.lr, self.momentum)

    def finish(self, broadcast: Broadcast, work: Work) -> tuple[Payload, AlgorithmState]:
        """``delta (d,)`` and the change of the ``buffers (b,)``."""
        return {"delta": work.params - broadcast.params, "buffers": work.buffers - broadcast.buffers}, AlgorithmState()

    def advance(self, server: Server, aggregate: Aggregate) -> Server:
        """Add the mean change."""
        return moved(server, aggregate, server.params + aggregate.payload["delta"])
