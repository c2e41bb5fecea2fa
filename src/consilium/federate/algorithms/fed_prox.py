"""FedProx: federated averaging whose sites are held near the shared model by a proximal term.

    at site k:  w <- w - lr (g(w) + mu (w - w_t))  for E epochs, from w_t;   delta_k = w - w_t
    server:     w_{t+1} = w_t + sum_k (n_k / n) delta_k

mu = 0 is FedAvg.  The term is added to the gradient that is handed in, after any noise (LAWS 12): it reads no record.

Source: Li et al. 2020, Federated Optimization in Heterogeneous Networks, arXiv:1812.06127, algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from consilium.core.algorithm import AlgorithmState, Broadcast, Work
from consilium.core.entry import check
from consilium.core.gradient import Gradient
from consilium.learn.optimiser import Optimiser

from ._local import LocalDescent

__all__ = ["FedProx"]


@dataclass(frozen=True)
class FedProx(LocalDescent):
    """FedAvg with a pull of strength ``mu`` towards the shared model."""

    lr: float = 0.1
    """Learning rate of a site's local steps."""
    momentum: float = 0.0
    """Momentum of a site's local steps; 0 is none."""
    optimiser: Optimiser = "sgd"
    """Rule of the local steps; `adam` takes no momentum, and its memory starts anew in each round."""
    mu: float = 0.01
    """Weight of the penalty on the distance to the round's first model; 0 is fed-avg."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(0 <= self.mu <= 1e6, "mu", self.mu, "0 to 1e6; 0.001 to 1 are usual")

    def begin(self, broadcast: Broadcast, state: AlgorithmState, steps: int) -> Work:
        """From the shared parameters, which are remembered."""
        return replace(super().begin(broadcast, state, steps), memory={"anchor": broadcast.params})

    def step(self, work: Work, gradient: Gradient) -> Work:
        """One step along the gradient of the loss and of mu/2 ||w - w_t||^2."""
        return self.descend(work, gradient, gradient.value + self.mu * (work.params - work.memory["anchor"]))
