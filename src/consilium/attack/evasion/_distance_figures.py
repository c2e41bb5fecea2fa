"""Figures of distances: how many records were fooled at all, and how far the smallest perturbations went.

    median   with the interval between the order statistics n/2 +- 1.96 sqrt(n)/2 (binomial, whatever the distribution)

Source: Conover 1999, Practical Nonparametric Statistics (section 3.2: intervals of quantiles)
"""

from __future__ import annotations

import math

from torch import Tensor

from consilium.core.finding import Measure
from consilium.measure.clustered import mean_limits, median_size, share_measure, unit_count

__all__ = ["distance_figures"]


def distance_figures(distances: Tensor, reason: str, units: Tensor | None = None) -> tuple[Measure, ...]:
    """``distances (n,)`` of the records that were attacked, infinite where none was fooled; undefined for a ``reason``.

    Where ``units (n,)`` have several records, the intervals are by unit, and n of the median as many as they are worth.
    ``share_fooled``, and ``median_distance`` and ``mean_distance`` of the records that were fooled.
    """
    names, n = ("share_fooled", "median_distance", "mean_distance"), len(distances)
    if reason or not n:
        cause = reason or "no record that the attack is for was answered rightly before it"
        return tuple(Measure.undefined(name, cause, n) for name in names)
    fooled = distances.isfinite()
    share, of = share_measure(names[0], fooled, units), None if units is None else units[fooled.to(units.device)]
    finite, order = distances[fooled].double().sort()
    of = None if of is None else of[order.to(of.device)]
    if not len(finite):
        return (
            share,
            *(Measure.undefined(name, "the attack fooled no record at any distance", n) for name in names[1:]),
        )
    half, count = 1.96 * math.sqrt(len(finite)) / 2 * math.sqrt(len(finite) / median_size(finite, of)), unit_count(of)
    low, high = max(0, math.floor(len(finite) / 2 - half)), min(len(finite) - 1, math.ceil(len(finite) / 2 + half))
    median = Measure(
        names[1], float(finite.quantile(0.5)), float(finite[low]), float(finite[high]), n=len(finite), unit_count=count
    )
    mean = Measure(names[2], *mean_limits(finite, of), n=len(finite), unit_count=count)
    return share, median, mean
