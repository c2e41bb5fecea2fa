"""Federated averaging: local epochs of gradient descent, then the weighted mean of what they changed.

    at site k:  w <- w - lr g(w)  for E epochs of batches of B, from w_t;   delta_k = w - w_t
    server:     w_{t+1} = w_t + sum_k (n_k / n) delta_k

Source: McMahan et al. 2017, arXiv:1602.05629, algorithm 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from consilium.learn.optimiser import Optimiser

from ._local import LocalDescent

__all__ = ["FedAvg"]


@dataclass(frozen=True)
class FedAvg(LocalDescent):
    """Local epochs, then the weighted mean of the changes."""

    lr: float = 0.1
    """Learning rate of a site's local steps."""
    momentum: float = 0.0
    """Momentum of a site's local steps; 0 is none."""
    optimiser: Optimiser = "sgd"
    """Rule of the local steps; `adam` takes no momentum, and its memory starts anew in each round."""
