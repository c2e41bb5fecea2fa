"""SCAFFOLD: control variates take each site's drift out of its steps.

    at site k:  y <- y - lr (g(y) - c_k + c)  for K steps, from x
                c_k+ = c_k - c + (x - y) / (K lr)                          (option II)
                sends  y - x  and  c_k+ - c_k;  keeps c_k+
    server:     x <- x + server-lr mean_S (y - x);   c <- c + |S|/N mean_S (c_k+ - c_k)

Option II reads parameters only, so under DP the noisy gradients are all that is charged (LAWS 12).  A site sends and
receives two vectors.  Weights are uniform; N counts all sites, sampled or not.

Source: Karimireddy et al. 2020, arXiv:1910.06378, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from consilium.core.algorithm import Algorithm, AlgorithmState, Broadcast, Server, Work
from consilium.core.entry import check
from consilium.core.gradient import Gradient, Schedule
from consilium.core.network import Network
from consilium.core.update import Aggregate, Payload

from ._local import moved

__all__ = ["Scaffold"]


@dataclass(frozen=True)
class Scaffold(Algorithm):
    """Local steps corrected by control variates, which stay at the sites; only their changes travel."""

    weights: ClassVar[Literal["records", "uniform"]] = "uniform"

    lr: float = 0.1
    """Learning rate of a site's local steps."""
    server_lr: float = 1.0
    """Learning rate of the server's step."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        check(0 < self.lr < 100, "lr", self.lr, "a learning rate above 0 and below 100")
        check(0 < self.server_lr < 100, "server_lr", self.server_lr, "a learning rate above 0 and below 100")

    def schedule(self, schedule: Schedule) -> Schedule:
        """``schedule`` unchanged."""
        return schedule

    def start(self, network: Network, population: int) -> Server:
        """With a control variate of zeros."""
        server = super().start(network, population)
        return replace(server, memory={"control": torch.zeros_like(server.params)})

    def broadcast(self, server: Server) -> Broadcast:
        """The shared model and the shared control variate c ``(d,)``."""
        return replace(super().broadcast(server), extra={"control": server.memory["control"]})

    def begin(self, broadcast: Broadcast, state: AlgorithmState, steps: int) -> Work:
        """From the shared parameters; a site that is new has c_k = 0."""
        common = broadcast.extra["control"]
        control = state.tensors.get("control", torch.zeros_like(common))
        return Work(
            broadcast.params, broadcast.buffers, planned=steps, memory={"own": control, "drift": common - control}
        )

    def step(self, work: Work, gradient: Gradient) -> Work:
        """One corrected step; the correction is added after the gradient was clipped and noised."""
        params = work.params.add(gradient.value + work.memory["drift"], alpha=-self.lr)
        return replace(work, params=params, buffers=gradient.buffers, steps=work.steps + 1)

    def finish(self, broadcast: Broadcast, work: Work) -> tuple[Payload, AlgorithmState]:
        """``delta (d,)``, ``control (d,)`` and ``buffers (b,)`` are sent; c_k stays."""
        delta = work.params - broadcast.params
        change = delta * (-1 / (max(work.steps, 1) * self.lr)) - broadcast.extra["control"]
        change = change if work.steps else torch.zeros_like(delta)  # without a step nothing was learned of the drift
        sent = {"delta": delta, "control": change, "buffers": work.buffers - broadcast.buffers}
        return sent, AlgorithmState({"control": work.memory["own"] + change})

    def expects(self, server: Server) -> Mapping[str, tuple[int, ...]]:
        """The usual, and ``control (d,)``."""
        return {**super().expects(server), "control": tuple(server.params.shape)}

    def advance(self, server: Server, aggregate: Aggregate) -> Server:
        """A server step, and the control variate moved by the cohort's share of all sites."""
        share = aggregate.count / server.population
        control = server.memory["control"].add(aggregate.payload["control"], alpha=share)
        params = server.params.add(aggregate.payload["delta"], alpha=self.server_lr)
        return moved(server, aggregate, params, control=control)
