"""Is one model better than another?  Intervals of differences on the same records, paired record by record.

    d_i = after_i - before_i                  estimate = sum over strata s of w_s mean of d over s, averaged over pairs
    interval = estimate +- t root(sum over units of z_u^2),   z_u the influence of a unit's records on the estimate

Accuracy has one stratum; balanced accuracy one a class (w = 1/classes); membership advantage members and non-members.
The records of a unit (a patient) count as one, and so does a record in all pairs and seeds that were judged on it.  As
Bonett and Price do for one pair, two artificial units that disagree (+1 and -1) join the records: few discordant ones
are then no certainty, and none at all is no zero width.  Of k strata each gets two that weigh 1/root k: our choice,
which covers in simulations down to a class of two records.  With several seeds Student's t over the seeds' means adds
the luck of the training; MOVER joins both (root of the summed squared half-widths).  With one seed that luck is left
out.

Source: Bonett and Price 2012, Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on
Paired Data; Agresti and Min 2005; Binder 1983 (influence, clusters); Zou and Donner 2008 (MOVER).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from consilium.core.errors import Refused

__all__ = ["Pair", "bounded_mean", "mean_of_ratios", "paired"]

_Limits = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models of one seed on the same records.

    change: float ``(n,)``, at most ``span`` in size; units: int64 ``(n,)``; strata: int ``(n,)`` below
    ``len(weights)``; weights: what the mean of each stratum counts.
    """

    seed: int
    change: NDArray[np.float64]
    units: NDArray[np.int64]
    strata: NDArray[np.int64]
    weights: tuple[float, ...] = (1.0,)
    span: float = 1.0

    def __post_init__(self) -> None:
        counts = np.bincount(self.strata, minlength=len(self.weights))
        if not self.change.shape == self.units.shape == self.strata.shape or len(counts) > len(self.weights):
            raise Refused(f"changes {self.change.shape}, units {self.units.shape}, strata {self.strata.shape} differ")
        if not counts.all():
            raise Refused("a stratum without records has no mean")

    @property
    def estimate(self) -> float:
        """The difference itself."""
        means = [self.change[self.strata == s].mean() for s in range(len(self.weights))]
        return float(np.dot(self.weights, means))


def paired(pairs: Sequence[Pair], confidence: float = 0.95) -> _Limits:
    """Mean difference over ``pairs``, with its interval; refused where there is none.

    Raises Refused: no pair.
    """
    if not pairs:
        raise Refused("a mean needs at least one pair")
    mean = math.fsum(pair.estimate for pair in pairs) / len(pairs)
    centre, record = _records(pairs, confidence)
    seed = _seeds(pairs, confidence)
    most = max(pair.span * sum(map(abs, pair.weights)) for pair in pairs)
    half = math.hypot(record, seed)
    return mean, max(-most, min(mean, centre - half)), min(most, max(mean, centre + half))


def bounded_mean(
    values: NDArray[np.float64], units: NDArray[np.int64], least: float, most: float, confidence: float = 0.95
) -> _Limits:
    """Mean of ``values (n,)``, each from ``least`` to ``most``, with its interval by unit.

    It is that of a difference of one pair: the two artificial units have the values ``least`` and ``most``.
    """
    middle, span = (most + least) / 2, (most - least) / 2
    pair = Pair(0, values - middle, units, np.zeros(len(values), np.int64), span=span)
    _, low, high = paired([pair], confidence)
    mean = float(values.mean())
    return mean, min(mean, low + middle), max(mean, high + middle)


def mean_of_ratios(ratios: Sequence[tuple[_Limits, _Limits]]) -> _Limits:
    """Mean of ``after / before`` over pairs of positive figures, each (value, low, high) and measured on its own.

    MOVER on the logarithms for each ratio, then on the ratios for their mean.

    Raises Refused: no pair.
    """
    if not ratios:
        raise Refused("a mean needs at least one pair")
    each = [_ratio(before, after) for before, after in ratios]
    mean = math.fsum(value for value, _, _ in each) / len(each)
    down = math.sqrt(math.fsum((value - low) ** 2 for value, low, _ in each)) / len(each)
    up = math.sqrt(math.fsum((high - value) ** 2 for value, _, high in each)) / len(each)
    return mean, mean - down, mean + up


def _records(pairs: Sequence[Pair], confidence: float) -> tuple[float, float]:
    """Centre and half-width for the choice of the records."""
    parts = [_influence(pair) for pair in pairs]
    centre = math.fsum(centre for centre, _, _ in parts) / len(pairs)
    units, influence = (np.concatenate([part[k] for part in parts]) for k in (1, 2))
    different, of = np.unique(units, axis=0, return_inverse=True)
    summed = np.bincount(of.ravel(), influence) / len(pairs)
    n = len(different)
    spread = math.sqrt(n / (n - 1) * float(summed @ summed))
    return centre, _t(n - max(len(pair.weights) for pair in pairs), confidence) * spread


def _influence(pair: Pair) -> tuple[float, NDArray[np.int64], NDArray[np.float64]]:
    """The centre; units as rows (unit, stratum, sign of an artificial one); what each record adds to the estimate."""
    centre, units, influence = 0.0, [], []
    for s, weight in enumerate(pair.weights):
        inside = pair.strata == s
        change, ids = pair.change[inside], pair.units[inside]
        size = len(ids) / len(np.unique(ids)) / len(pair.weights) ** 0.5
        additions = np.array([pair.span, -pair.span])
        total = len(ids) + 2 * size
        mean = change.sum() / total
        centre += weight * mean
        units += [np.c_[ids, np.zeros((len(ids), 2), np.int64)], np.array([[0, s, 1], [0, s, -1]])]
        influence += [weight * (change - mean) / total, weight * size * (additions - mean) / total]
    return float(centre), np.concatenate(units), np.concatenate(influence)


def _seeds(pairs: Sequence[Pair], confidence: float) -> float:
    """Half-width for the randomness of training; undefined with one seed."""
    seeds = sorted({pair.seed for pair in pairs})
    means = [np.mean([pair.estimate for pair in pairs if pair.seed == seed]) for seed in seeds]
    if len(seeds) == 1:
        return 0.0
    return _t(len(seeds) - 1, confidence) * float(np.std(means, ddof=1)) / math.sqrt(len(seeds))


def _ratio(before: _Limits, after: _Limits) -> _Limits:
    (b, b_low, b_high), (a, a_low, a_high) = (tuple(map(math.log, limits)) for limits in (before, after))
    value = a - b
    low, high = value - math.hypot(a - a_low, b_high - b), value + math.hypot(a_high - a, b - b_low)
    return math.exp(value), math.exp(low), math.exp(high)


def _t(freedom: int, confidence: float) -> float:
    return float(special.stdtrit(max(1, freedom), (1 + confidence) / 2))
