"""FedDyn: each site's loss is bent every round so that the sites' optima and the shared one become the same.

    at site k:  w <- w - lr (g(w) - h_k + alpha (w - w_t))  for E epochs, from w_t
                h_k <- h_k - alpha (w - w_t);   sends  w - w_t,  keeps h_k
    server:     h <- h - alpha/N sum_S (w - w_t);   w_{t+1} = mean_S w - h / alpha

h_k is the gradient of site k's own loss where it stopped, read off the parameters: it costs no record and no charge,
and is added after any noise (LAWS 12).  Weights are uniform; N counts all sites, sampled or not.  A small alpha learns
fast and can diverge under small cohorts or few local steps, for h / alpha is then large.

Source: Acar et al. 2021, arXiv:2111.04263, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch

from consilium.core.algorithm import AlgorithmState, Broadcast, Server, Work
from consilium.core.entry import check
from consilium.core.gradient import Gradient
from consilium.core.network import Network
from consilium.core.update import Aggregate, Payload
from consilium.learn.optimiser import Optimiser

from ._local import LocalDescent, moved

__all__ = ["FedDyn"]


@dataclass(frozen=True)
class FedDyn(LocalDescent):
    """Local descent on dynamically regularised losses; their slopes stay at the sites."""

    weights: ClassVar[Literal["records", "uniform"]] = "uniform"

    lr: float = 0.1
    """Learning rate of a site's local steps."""
    momentum: float = 0.0
    """Momentum of a site's local steps; 0 is none."""
    optimiser: Optimiser = "sgd"
    """Rule of the local steps; `adam` takes no momentum, and its memory starts anew in each round."""
    alpha: float = 0.1
    """Weight of the penalty that ties a site to the shared model; small learns fast and may diverge."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(1e-6 <= self.alpha <= 1e6, "alpha", self.alpha, "1e-6 to 1e6; 0.01 to 1 are usual")

    def start(self, network: Network, population: int) -> Server:
        """With h = 0."""
        server = super().start(network, population)
        return replace(server, memory={"slope": torch.zeros_like(server.params)})

    def begin(self, broadcast: Broadcast, state: AlgorithmState, steps: int) -> Work:
        """From the shared parameters; a site that is new has h_k = 0."""
        slope = state.tensors.get("slope", torch.zeros_like(broadcast.params))
        memory = {"anchor": broadcast.params, "slope": slope}
        return replace(super().begin(broadcast, state, steps), memory=memory)

    def step(self, work: Work, gradient: Gradient) -> Work:
        """One step along the gradient of the bent loss."""
        pull = self.alpha * (work.params - work.memory["anchor"]) - work.memory["slope"]
        return self.descend(work, gradient, gradient.value + pull)

    def finish(self, broadcast: Broadcast, work: Work) -> tuple[Payload, AlgorithmState]:
        """``delta (d,)`` and ``buffers (b,)`` are sent; h_k stays."""
        sent, _ = super().finish(broadcast, work)
        return sent, AlgorithmState({"slope": work.memory["slope"].add(sent["delta"], alpha=-self.alpha)})

    def advance(self, server: Server, aggregate: Aggregate) -> Server:
        """The cohort's mean, and the mean slope of all sites taken off."""
        change, share = aggregate.payload["delta"], aggregate.count / server.population
        slope = server.memory["slope"].add(change, alpha=-self.alpha * share)
        return moved(server, aggregate, server.params + change - slope / self.alpha, slope=slope)
