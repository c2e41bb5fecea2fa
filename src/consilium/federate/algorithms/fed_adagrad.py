"""FedAdagrad: federated averaging with Adagrad at the server.

    at site k:  as FedAvg;   delta_k = w - w_t;   Delta = sum_k (n_k / n) delta_k
    server:     m <- beta1 m + (1 - beta1) Delta;   v <- v + Delta^2
                w_{t+1} = w_t + server-lr m / (sqrt(v) + tau)

v starts at tau^2, nothing is corrected for bias.  m and v stay at the server; sites send what they send in FedAvg.

Source: Reddi et al. 2021, Adaptive Federated Optimization, arXiv:2003.00295, algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from consilium.learn.optimiser import Optimiser

from ._adaptive import AdaptiveServer

__all__ = ["FedAdagrad"]


@dataclass(frozen=True)
class FedAdagrad(AdaptiveServer):
    """FedAvg whose server divides by the root of the sum of all squared changes."""

    lr: float = 0.1
    momentum: float = 0.0
    optimiser: Optimiser = "sgd"
    server_lr: float = 0.1
    beta1: float = 0.0
    tau: float = 1e-3

    def squares(self, before: Tensor, square: Tensor) -> Tensor:
        """All of them: steps only grow shorter."""
        return before + square
