"""The least noise whose cost is within a target: a falling cost is bracketed by doubling, then met by secants.

    log cost is nearly a straight line in log sigma, so few evaluations are needed; the answer is rounded up

A cost may jump (where a bound replaces an accountant): the result is then above the jump, never beyond the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["least_noise"]


def least_noise(cost: Callable[[float], float], target: float) -> float:
    """Falling ``cost``: the least sigma, to five digits, with cost <= target.  It spends at least 99.5 % of it."""
    low, high = 0.0, 1.0
    below, above = cost(high), math.inf
    while below > target:
        low, above, high = high, below, high * 2
        below = cost(high)
    while not low:
        half = _ceil(high / 2)
        value = cost(half)
        if value > target:
            low, above = half, value
        else:
            high, below = half, value
    while below < 0.996 * target and high / low > 1 + 1e-4:
        middle = _ceil(_secant(low, above, high, below, 0.998 * target))
        if not low < middle < high:
            break
        value = cost(middle)
        if value > target:
            low, above = middle, value
        else:
            high, below = middle, value
    return high


def _secant(low: float, above: float, high: float, below: float, aim: float) -> float:
    """Where a power law through both ends meets ``aim``, kept 5 % inside them (in log) so that both ends move."""
    a, b, c = (math.log(max(v, 1e-12)) for v in (above, below, aim))
    share = min(max((a - c) / (a - b), 0.05), 0.95) if a > b else 0.5
    return math.exp(math.log(low) + share * math.log(high / low))


def _ceil(sigma: float) -> float:
    """Rounded up to five significant digits: short to print, and never less noise than requested."""
    unit = 10.0 ** (math.floor(math.log10(sigma)) - 4)
    return round(math.ceil(sigma / unit - 1e-9) * unit, 12)
