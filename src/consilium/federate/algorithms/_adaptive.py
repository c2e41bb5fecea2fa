"""What FedAdagrad, FedAdam and FedYogi share: the server's step; they differ in how v accumulates squares.

    m <- beta1 m + (1 - beta1) Delta;   w <- w + server-lr m / (sqrt(v) + tau);   Delta = sum_k (n_k / n) delta_k

As in the paper, v starts at tau^2 and nothing is corrected for bias.

Source: Reddi et al. 2021, Adaptive Federated Optimization, arXiv:2003.00295, algorithm 2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from consilium.core.algorithm import Server
from consilium.core.entry import check
from consilium.core.network import Network
from consilium.core.update import Aggregate

from ._local import LocalDescent, moved

__all__ = ["AdaptiveServer"]


@dataclass(frozen=True)
class AdaptiveServer(LocalDescent, ABC):
    """FedAvg at the sites; at the server a step size per coordinate."""

    server_lr: float
    beta1: float
    tau: float

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(0 < self.server_lr < 100, "server_lr", self.server_lr, "a learning rate above 0 and below 100")
        check(0 <= self.beta1 < 1, "beta1", self.beta1, "0 to 1, 1 excluded")
        check(1e-12 <= self.tau <= 1e6, "tau", self.tau, "a positive number, 1e-12 to 1e6")

    @abstractmethod
    def squares(self, before: Tensor, square: Tensor) -> Tensor:
        """v ``(d,)`` after a round whose mean change squared is ``square (d,)``."""

    def start(self, network: Network, population: int) -> Server:
        """m = 0, v = tau^2."""
        server = super().start(network, population)
        still = torch.zeros_like(server.params)
        return replace(server, memory={"mean": still, "square": torch.full_like(still, self.tau**2)})

    def advance(self, server: Server, aggregate: Aggregate) -> Server:
        """One adaptive step along the mean change."""
        change = aggregate.payload["delta"]
        mean = self.beta1 * server.memory["mean"] + (1 - self.beta1) * change
        square = self.squares(server.memory["square"], change * change)
        params = server.params.addcdiv(mean, square.sqrt() + self.tau, value=self.server_lr)
        return moved(server, aggregate, params, mean=mean, square=square)
