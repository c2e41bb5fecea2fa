"""95 % intervals: for a proportion, for a function of several proportions, for a mean, and by resampling.

    Wilson             (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    Clopper-Pearson    quantiles of Beta(k, n-k+1) and Beta(k+1, n-k)
    MOVER              estimate +- root of the summed squared distances to the limits of the parts

None has zero width at 0 or n successes, where the bootstrap claims to be certain.

Source: Wilson 1927; Clopper and Pearson 1934; Newcombe 1998 (method 10); Zou and Donner 2008 (MOVER); Efron 1979.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy import special
from torch import Tensor

from consilium.core.errors import Refused

__all__ = [
    "across_seeds",
    "bootstrap",
    "clopper_pearson",
    "difference",
    "mean_of_proportions",
    "score_interval",
    "wilson",
]

_Z = float(special.ndtri(0.975))
_CHUNK = 4_000_000
"""Numbers held at once while resampling."""


def wilson(k: int, n: int) -> tuple[float, float]:
    """Score interval of the proportion ``k`` of ``n``."""
    _counts(k, n)
    return score_interval(k / n, n)


def score_interval(p: float, n: float) -> tuple[float, float]:
    """Wilson's interval of a share ``p`` of ``n`` records, of which there may be a fraction."""
    z2 = _Z * _Z
    centre, half = p + z2 / (2 * n), _Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    return (0.0 if p == 0 else max(0.0, low)), (1.0 if p == 1 else min(1.0, high))


def clopper_pearson(k: float, n: float) -> tuple[float, float]:
    """Exact interval of the proportion ``k`` of ``n``, which may be fractions: its coverage is at least 95 %."""
    _counts(k, n)
    low = 0.0 if k == 0 else float(special.betaincinv(k, n - k + 1, 0.025))
    high = 1.0 if k == n else float(special.betaincinv(k + 1, n - k, 0.975))
    return low, high


def mean_of_proportions(successes: Sequence[int], totals: Sequence[int]) -> tuple[float, float]:
    """Interval of the unweighted mean of independent proportions (balanced accuracy), by MOVER on Wilson limits."""
    parts = [(k / n, *wilson(k, n)) for k, n in zip(successes, totals, strict=True)]
    mean = sum(p for p, _, _ in parts) / len(parts)
    down = math.sqrt(sum((p - low) ** 2 for p, low, _ in parts)) / len(parts)
    up = math.sqrt(sum((high - p) ** 2 for p, _, high in parts)) / len(parts)
    return max(0.0, mean - down), min(1.0, mean + up)


def difference(k1: int, n1: int, k2: int, n2: int) -> tuple[float, float]:
    """Newcombe's interval of ``k1/n1 - k2/n2``, two independent proportions."""
    (l1, u1), (l2, u2), p1, p2 = wilson(k1, n1), wilson(k2, n2), k1 / n1, k2 / n2
    down, up = math.hypot(p1 - l1, u2 - p2), math.hypot(u1 - p1, p2 - l2)
    return max(-1.0, p1 - p2 - down), min(1.0, p1 - p2 + up)


def across_seeds(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean and Student's t interval of repeated runs; one run has no interval (None, None).

    Raises Refused: no value.
    """
    if not values:
        raise Refused("a mean needs at least one value")
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return mean, None, None
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    half = float(special.stdtrit(n - 1, 0.975)) * spread
    return mean, mean - half, mean + half


def bootstrap(
    statistic: Callable[..., Tensor], *arrays: Tensor, generator: torch.Generator | int, repeats: int = 1000
) -> tuple[float, float]:
    """Percentile interval of ``statistic`` over ``repeats`` resamples with replacement of the rows of ``arrays``.

    The arrays ``(n, ...)`` are resampled together.  ``statistic`` gets many resamples in one call, as ``(r, n, ...)``,
    and returns ``(r,)``.

    Raises Refused: no rows, or arrays of different lengths.
    """
    n = len(arrays[0]) if arrays else 0
    if n == 0 or any(len(a) != n for a in arrays):
        raise Refused(f"a bootstrap needs arrays of one length of at least 1, got {[len(a) for a in arrays]}")
    source = torch.Generator().manual_seed(generator) if isinstance(generator, int) else generator
    values = []
    for first in range(0, repeats, size := max(1, _CHUNK // n)):
        rows = torch.randint(n, (min(size, repeats - first), n), generator=source, device=source.device)
        values.append(statistic(*(a[rows.to(a.device)] for a in arrays)).double().cpu())
    low, high = torch.quantile(torch.cat(values), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def _counts(k: float, n: float) -> None:
    if not 0 <= k <= n or n == 0:
        raise Refused(f"{k} of {n} is not a proportion")
