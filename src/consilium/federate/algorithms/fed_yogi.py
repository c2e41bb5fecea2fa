"""FedYogi: federated averaging with Yogi at the server.

    at site k:  as FedAvg;   delta_k = w - w_t;   Delta = sum_k (n_k / n) delta_k
    server:     m <- beta1 m + (1 - beta1) Delta;   v <- v - (1 - beta2) Delta^2 sign(v - Delta^2)
                w_{t+1} = w_t + server-lr m / (sqrt(v) + tau)

v starts at tau^2, nothing is corrected for bias.  m and v stay at the server; sites send what they send in FedAvg.

Source: Reddi et al. 2021, Adaptive Federated Optimization, arXiv:2003.00295, algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from consilium.core.entry import check
from consilium.learn.optimiser import Optimiser

from ._adaptive import AdaptiveServer

__all__ = ["FedYogi"]


@dataclass(frozen=True)
class FedYogi(AdaptiveServer):
    """FedAdam whose squares fade slowly: by a share of the newest, not of what was."""

    lr: float = 0.1
    """Learning rate of a site's local steps."""
    momentum: float = 0.0
    """Momentum of a site's local steps; 0 is none."""
    optimiser: Optimiser = "sgd"
    """Rule of the local steps; `adam` takes no momentum, and its memory starts anew in each round."""
    server_lr: float = 0.01
    """Learning rate of the server's step."""
    beta1: float = 0.9
    """Share of the server's mean change that is kept from one round to the next."""
    beta2: float = 0.99
    """Share of the server's mean squared change that is kept from one round to the next."""
    tau: float = 1e-3
    """Added to the root of the mean squared change: the larger, the less the server's step adapts."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(0 <= self.beta2 < 1, "beta2", self.beta2, "0 to 1, 1 excluded")

    def squares(self, before: Tensor, square: Tensor) -> Tensor:
        """Towards the newest square, by a share of that square: v falls slowly where changes grow small."""
        return before - (1 - self.beta2) * square * (before - square).sign()
