"""FedAvgM: federated averaging with momentum at the server.

    at site k:  as FedAvg;   delta_k = w - w_t
    server:     v <- beta v + sum_k (n_k / n) delta_k;   w_{t+1} = w_t + server-lr v

beta = 0 and server-lr = 1 is FedAvg.  The velocity stays at the server; sites send what they send in FedAvg.

Source: Hsu et al. 2019, arXiv:1909.06335, section 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from consilium.core.algorithm import Server
from consilium.core.entry import check
from consilium.core.network import Network
from consilium.core.update import Aggregate
from consilium.learn.optimiser import Optimiser

from ._local import LocalDescent, moved

__all__ = ["FedAvgM"]


@dataclass(frozen=True)
class FedAvgM(LocalDescent):
    """FedAvg with momentum at the server."""

    lr: float = 0.1
    """Learning rate of a site's local steps."""
    momentum: float = 0.0
    """Momentum of a site's local steps; 0 is none."""
    optimiser: Optimiser = "sgd"
    """Rule of the local steps; `adam` takes no momentum, and its memory starts anew in each round."""
    server_lr: float = 1.0
    """Learning rate of the server's step."""
    server_momentum: float = 0.9
    """Momentum of the server's step; with 0 and a server-lr of 1 this is fed-avg."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(0 < self.server_lr < 100, "server_lr", self.server_lr, "a learning rate above 0 and below 100")
        check(0 <= self.server_momentum < 1, "server_momentum", self.server_momentum, "0 to 1, 1 excluded")

    def start(self, network: Network, population: int) -> Server:
        """At rest."""
        server = super().start(network, population)
        return replace(server, memory={"velocity": torch.zeros_like(server.params)})

    def advance(self, server: Server, aggregate: Aggregate) -> Server:
        """One step of gradient descent with momentum along the mean change."""
        velocity = self.server_momentum * server.memory["velocity"] + aggregate.payload["delta"]
        return moved(server, aggregate, server.params.add(velocity, alpha=self.server_lr), velocity=velocity)
