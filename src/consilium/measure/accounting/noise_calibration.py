"""From epsilon to noise: the least noise multiplier whose cost is within a target.

Source: the accountants are those of :mod:`.composition`; the search is :mod:`.least_noise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from consilium.core.charge import Adjacency, Charge
from consilium.core.errors import Refused

from .composition import composed, renyi_bound
from .least_noise import least_noise
from .privacy import check_delta
from .privacy import epsilon as epsilon_of

__all__ = ["enough_noise", "least_multiplier", "noise_multiplier"]

_SOON = 20_000
"""Steps up to which the least noise is found in a moment."""


@lru_cache(maxsize=4096)
def noise_multiplier(
    epsilon: float, delta: float, rate: float, steps: int, adjacency: Adjacency = "add-or-remove-one"
) -> float:
    """The least sigma, to five digits and rounded up, whose cost over ``steps`` Poisson samples is at most ``epsilon``.

    It spends at least 99.5 % of ``epsilon``, except between about 40 and 50, where the reported bound jumps.

    Raises Refused: epsilon, rate or steps out of range.
    """
    check_delta(delta)
    if not (0 < epsilon < math.inf and 0 < rate <= 1 and steps >= 1):
        raise Refused(
            f"no noise multiplier for epsilon {epsilon}, rate {rate}, steps {steps}", remedy="use positive ones"
        )
    return least_noise(lambda sigma: composed(((rate, sigma, steps),), delta, adjacency).epsilon, epsilon)


def least_multiplier(
    charge: Callable[[float], Charge], target: float, delta: float, adjacency: Adjacency = "add-or-remove-one"
) -> float:
    """The least sigma, to five digits and rounded up, whose ``charge`` costs at most ``target``: any mechanism.

    Raises Refused: a target or a delta out of range.
    """
    check_delta(delta)
    if not 0 < target < math.inf:
        raise Refused(f"no noise multiplier for epsilon {target}", remedy="use a positive one")
    return least_noise(lambda sigma: epsilon_of([charge(sigma)], delta, adjacency).epsilon, target)


def enough_noise(epsilon: float, delta: float, rate: float, steps: int, adjacency: Adjacency) -> float:
    """A sigma that meets ``epsilon``: for a remedy, so computed at once where the least one would take minutes."""
    if steps <= _SOON:
        return noise_multiplier(epsilon, delta, rate, steps, adjacency)
    return least_noise(lambda sigma: renyi_bound(((rate, sigma, steps),), delta, adjacency), epsilon)
