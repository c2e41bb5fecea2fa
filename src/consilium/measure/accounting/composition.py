"""Epsilon of Poisson-sampled Gaussians composed: privacy loss distributions, and Renyi bounds where those take minutes.

PLD on a grid of width h, chosen so that the grid's error (about T h^2 over T steps, always upwards) stays near 1e-4 of
epsilon.  A Renyi bound for add-or-remove-one is computed first: it is fast, and above 50 no exact value is computed, as
it changes no decision.  Under replace-one a sum moves by 2C, from one vector of length C to another:

    D_a <= log(1 - q + q exp(2 a (a - 1) / sigma^2)) / (a - 1)        (joint convexity over the coin of the sample)

Source: Koskela et al. 2020, arXiv 1906.03049; Doroshenko et al. 2022, arXiv 2207.04380; Mironov 2017, arXiv 1702.07476
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from consilium.core.charge import Adjacency

if TYPE_CHECKING:  # dp-accounting imports much of scipy: it is imported where an epsilon is computed
    import dp_accounting

__all__ = ["PLD", "Mechanisms", "Spent", "composed", "dp_event", "renyi_bound"]

PLD = "PLD"
_SKIP_ABOVE = 50.0
_RDP = f"RDP (upper bound; PLD skipped above {_SKIP_ABOVE:g})"
_UNRESOLVED = "RDP (upper bound; PLD did not resolve delta)"
_ORDERS = np.concatenate([1 + np.logspace(-2, 0, 40), np.logspace(np.log10(2.05), 3, 80)])

Mechanisms = tuple[tuple[float, float, int], ...]
"""(sampling rate, noise multiplier, how often), sorted: a ledger in canonical form."""


@dataclass(frozen=True)
class Spent:
    """An epsilon and the accountant that computed it."""

    epsilon: float
    accountant: str


@lru_cache(maxsize=4096)
def composed(ledger: Mechanisms, delta: float, adjacency: Adjacency) -> Spent:
    """What ``ledger`` costs at ``delta``."""
    if not ledger:
        return Spent(0.0, PLD)
    from dp_accounting.pld.pld_privacy_accountant import PLDAccountant

    scale = renyi_bound(ledger, delta, "add-or-remove-one")
    if scale > _SKIP_ABOVE:
        return Spent(renyi_bound(ledger, delta, adjacency), _RDP)
    width = math.sqrt(1e-4 * max(scale, 1e-3) / sum(count for _, _, count in ledger))
    exact = PLDAccountant(_relation(adjacency), value_discretization_interval=min(max(width, 1e-5), 1e-3))
    for mechanism in ledger:
        exact.compose(dp_event(*mechanism))
    value = float(exact.get_epsilon(delta))
    return Spent(value, PLD) if math.isfinite(value) else Spent(renyi_bound(ledger, delta, adjacency), _UNRESOLVED)


def renyi_bound(ledger: Mechanisms, delta: float, adjacency: Adjacency) -> float:
    """An upper bound by Renyi divergences: cheap, and looser than PLD."""
    from dp_accounting.rdp.rdp_privacy_accountant import RdpAccountant, compute_epsilon

    if adjacency == "replace-one":
        total = sum(count * _replaced(rate, sigma) for rate, sigma, count in ledger)
        return float(compute_epsilon(_ORDERS.tolist(), np.asarray(total).tolist(), delta)[0])
    accountant = RdpAccountant()
    with _quiet():
        for mechanism in ledger:
            accountant.compose(dp_event(*mechanism))
        return float(accountant.get_epsilon(delta))


def dp_event(rate: float, sigma: float, count: int) -> dp_accounting.DpEvent:
    """The same in dp-accounting's terms."""
    import dp_accounting

    gaussian = dp_accounting.GaussianDpEvent(sigma)
    one = gaussian if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, gaussian)
    return dp_accounting.SelfComposedDpEvent(one, count)


def _relation(adjacency: Adjacency) -> dp_accounting.NeighboringRelation:
    from dp_accounting import NeighboringRelation

    known = {
        "add-or-remove-one": NeighboringRelation.ADD_OR_REMOVE_ONE,
        "replace-one": NeighboringRelation.REPLACE_ONE,
    }
    return known[adjacency]


def _replaced(rate: float, sigma: float) -> np.ndarray:
    """The Renyi divergence bound of one step, at each of the orders."""
    a = _ORDERS
    with np.errstate(divide="ignore"):  # log(0) where everything is sampled
        mixed = np.logaddexp(np.log1p(-rate), math.log(rate) + 2 * a * (a - 1) / sigma**2)
    bound: np.ndarray = mixed / (a - 1)
    return bound


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop dp-accounting's warnings about Renyi orders that it leaves out: a bound over fewer orders is still one."""

    def keep(record: logging.LogRecord) -> bool:
        return "failed to converge" not in str(record.msg)

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
