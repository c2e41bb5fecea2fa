"""Figures of distances: how many records were fooled at all, and how far the smallest perturbations went.

    median   with the interval between the order statistics n/2 +- 1.96 sqrt(n)/2 (binomial, whatever the distribution)

Source: Conover 1999, Practical Nonparametric Statistics (section 3.2: intervals of quantiles)
"""

from __future__ import annotations

import math

from torch import Tensor

from consilium.core.finding import Measure
from consilium.measure.intervals import across_seeds, wilson

__all__ = ["distance_figures"]


def distance_figures(distances: Tensor, reason: str) -> tuple[Measure, ...]:
    """``distances (n,)`` of the records that were attacked, infinite where none was fooled; undefined for a ``reason``.

    ``share_fooled``, and ``median_distance`` and ``mean_distance`` of the records that were fooled.
    """
    names, n = ("share_fooled", "median_distance", "mean_distance"), len(distances)
    if reason or not n:
        cause = reason or "no record that the attack is for was answered rightly before it"
        return tuple(Measure.undefined(name, cause, n) for name in names)
    finite = distances[distances.isfinite()].double().sort().values
    share = Measure(names[0], len(finite) / n, *wilson(len(finite), n), n=n)
    if not len(finite):
        return (
            share,
            *(Measure.undefined(name, "the attack fooled no record at any distance", n) for name in names[1:]),
        )
    half = 1.96 * math.sqrt(len(finite)) / 2
    low, high = max(0, math.floor(len(finite) / 2 - half)), min(len(finite) - 1, math.ceil(len(finite) / 2 + half))
    median = Measure(names[1], float(finite.quantile(0.5)), float(finite[low]), float(finite[high]), n=len(finite))
    mean, least, most = across_seeds(finite.tolist())
    return share, median, Measure(names[2], mean, least, most, n=len(finite))
