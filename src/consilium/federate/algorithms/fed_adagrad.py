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
    """Learning rate of a site's local steps."""
    momentum: float = 0.0
    """Momentum of a site's local steps; 0 is none."""
    optimiser: Optimiser = "sgd"
    """Rule of the local steps; `adam` takes no momentum, and its memory starts anew in each round."""
    server_lr: float = 0.1
    """Learning rate of the server's step."""
    beta1: float = 0.0
    """Share of the server's mean change that is kept from one round to the next."""
    tau: float = 1e-3
    """Added to the root of the mean squared change: the larger, the less the server's step adapts."""

    def squares(self, before: Tensor, square: Tensor) -> Tensor:
        """All of them: steps only grow shorter."""
        return before + square
