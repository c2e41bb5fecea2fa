"""A site's weight in the merge: computed by the server alone, from what was enrolled.

    w_k = n_k, its number of training records, or 1            as the study or the algorithm's paper has it
    w_k <- min(w_k, c),   c = m sum_j min(w_j, c)              with a largest share m below 1: water-filling

c is unique, so weights are lowered no further than the cap needs, and equal weights stay equal.  Among the K sites of a
round no share can be below 1 / K for all: fewer than 1 / m updates allow no lawful weights, and make no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from consilium.core.errors import Refused
from consilium.core.rounding import round_down, round_up

__all__ = ["Weighing", "check_weight", "fewest_sites", "limited", "shares", "site_weights"]

Weighing = Literal["records", "uniform"]
_ROUNDING = 1e-9


def site_weights(records: Mapping[str, int], weighing: Weighing) -> dict[str, float]:
    """Each site's weight, from its number of training records."""
    return {site: float(n) if weighing == "records" else 1.0 for site, n in records.items()}


def check_weight(site: str, weight: float, weights: Mapping[str, float]) -> None:
    """Refuse a weight that is not the one that the server worked out for ``site``.

    Raises Refused: the update declares another weight.
    """
    if site in weights and weight != weights[site]:
        raise Refused(f"weighs {weight:g}, and the server gives it {weights[site]:g}")


def limited(weights: Mapping[str, float], most: float) -> dict[str, float]:
    """``weights`` lowered so that no share of their sum exceeds ``most``; as they are where none does.

    Refused for fewer than 1 / ``most`` sites.

    Raises Refused: fewer than 1 / ``most`` sites.
    """
    if most >= 1 or not weights:
        return dict(weights)
    n = len(weights)
    if n < fewest_sites(most):
        raise Refused(
            f"among {n} sites one has a share of at least {round_down(1 / n)}, and {most:g} is the most",
            remedy=f"use a max-share of at least {round_up(1 / n)}, or more sites",
        )
    level = _level(sorted(weights.values(), reverse=True), most)
    return {site: min(weight, level) for site, weight in weights.items()}


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Each site's part of the sum."""
    total = math.fsum(weights.values())
    return {site: weight / total if total else 0.0 for site, weight in weights.items()}


def fewest_sites(most: float) -> int:
    """The fewest sites among which no share need exceed ``most``."""
    return max(1, math.ceil(1 / most - _ROUNDING))


def _level(weights: list[float], most: float) -> float:
    """c for ``weights``, the largest first: as few of them are lowered to it as the cap needs."""
    if weights[0] <= most * math.fsum(weights):
        return weights[0]
    for lowered in range(1, len(weights)):
        free = 1 - lowered * most
        if free <= _ROUNDING:
            break
        level = most * math.fsum(weights[lowered:]) / free
        if level >= weights[lowered]:
            return level
    return weights[-1]  # so many as the cap allows: all alike
