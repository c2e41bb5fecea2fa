"""Intervals where a patient has several records: figures vary as patients do, not as records do.

    z_u = sum of d_i over the records i of unit u,     d_i the influence of a record on the figure
    V = max(G/(G-1) sum z_u^2, n/(n-1) sum d_i^2)      G units: records count at most as independent ones (effect >= 1)
    m = p(1-p)/V (1.96 / t_{G-1})^2                    effective records; the interval is Wilson's of p with m

All alike (V = 0) counts as G records.  A weighted sum of shares (balanced accuracy; members minus non-members) joins
the limits of its parts by MOVER, with the correlation that units in several parts bring.  The influence on an area
under the ROC curve is its placement value; t has Satterthwaite's degrees of freedom over the classes.

Where every record is its own unit nothing here is used: :func:`several` is None there.

Source: Korn and Graubard 1998 (effective records with t); Dean and Pagano 2015 (Wilson with them); Binder 1983
(influence by unit); Zou 2007 (MOVER, correlated parts); Obuchowski 1997 (ROC areas by unit); Satterthwaite 1946.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from consilium.core.count_words import count_words
from consilium.core.finding import Measure

from .intervals import across_seeds, mean_of_proportions, score_interval, wilson
from .ranking import Ranking

__all__ = [
    "area_limits",
    "combined_limits",
    "effective_share",
    "mean_limits",
    "mean_share",
    "median_size",
    "several",
    "share_measure",
    "unit_count",
    "unit_notes",
    "with_unit_counts",
]

_Floats = NDArray[np.float64]
_Units = NDArray[np.int64]
_Z = float(special.ndtri(0.975))


def several(units: Tensor | None) -> _Units | None:
    """The unit of each record ``(n,)``, numbered from 0; None where no unit has two records, or none is known."""
    if units is None or not len(units):
        return None
    different, of = np.unique(units.cpu().numpy(), return_inverse=True)
    return None if len(different) == len(of) else of.ravel().astype(np.int64)


def unit_count(units: Tensor | None) -> int:
    """How many units the records are of; 0 where each is its own, which needs no mention."""
    of = several(units)
    return 0 if of is None else int(of.max()) + 1


def with_unit_counts(measures: Sequence[Measure], units: Tensor) -> tuple[Measure, ...]:
    """``measures`` of all records, with the number of ``units (n,)`` beside n where some have several records."""
    units_there, n = unit_count(units), len(units)
    if not units_there:
        return tuple(measures)
    return tuple(replace(m, unit_count=units_there) if m.n == n and not m.unit_count else m for m in measures)


def unit_notes(units: Tensor, whose: str) -> tuple[str, ...]:
    """Whose records they are, in a sentence; none where each is its own unit."""
    groups = unit_count(units)
    if not groups:
        return ()
    of = count_words(groups, "patient")
    return (f"The {len(units)} {whose} records are of {of} (units): intervals are by patient, not by record.",)


def share_measure(name: str, hits: Tensor, units: Tensor | None, chance: float | None = None) -> Measure:
    """The share of ``hits (n,)`` bool, with Wilson's interval of as many records as they are worth; n at least 1."""
    k, n, of = int(hits.sum()), len(hits), several(units)
    if of is None:
        return Measure(name, k / n, *wilson(k, n), chance, n)
    limits = score_interval(*effective_share(hits.cpu().numpy(), of))
    return Measure(name, k / n, *limits, chance, n, unit_count=unit_count(units))


def mean_share(name: str, parts: Sequence[tuple[Tensor, Tensor]], of: _Units | None, chance: float) -> Measure:
    """The mean over ``parts``, (hits bool, which of all records they are of ``(n,)``), of their shares.

    ``of`` is what :func:`several` says of the units of all records.
    """
    hits, totals, n = [int(h.sum()) for h, _ in parts], [len(h) for h, _ in parts], len(parts[0][1])
    value = sum(k / m for k, m in zip(hits, totals, strict=True)) / len(totals)
    if of is None:
        return Measure(name, value, *mean_of_proportions(hits, totals), chance, n)
    values = [h.cpu().numpy().astype(np.float64) for h, _ in parts]
    low, high = combined_limits(values, [of[at.cpu().numpy()] for _, at in parts], [1 / len(parts)] * len(parts))
    return Measure(name, value, max(0.0, low), min(1.0, high), chance, n, unit_count=int(of.max()) + 1)


def effective_share(values: NDArray[np.bool_] | _Floats, of: _Units) -> tuple[float, float]:
    """The mean of ``values (n,)`` from 0 to 1, and of how many independent records its interval is."""
    numbers = values.astype(np.float64)
    mean = float(numbers.mean())
    different, place = np.unique(of, return_inverse=True)
    return mean, _effective(mean, (numbers - mean) / len(of), place.ravel(), len(different))


def _effective(mean: float, influence: _Floats, of: _Units, groups: int) -> float:
    """``of (n,)`` numbers the units from 0 to ``groups`` - 1."""
    spread = _variance(influence, of, groups)
    if groups < 2 or not 0 < mean < 1 or not spread > 0:
        return float(groups)
    return mean * (1 - mean) / spread * (_Z / _t(groups - 1)) ** 2


def _variance(influence: _Floats, of: _Units, groups: int) -> float:
    n = len(influence)
    sums = np.bincount(of, influence, minlength=groups)
    return max(groups / max(1, groups - 1) * float(sums @ sums), n / max(1, n - 1) * float(influence @ influence))


def combined_limits(
    values: Sequence[_Floats], units: Sequence[_Units], weights: Sequence[float]
) -> tuple[float, float]:
    """Limits of the sum over parts of weight times mean of ``values[k] (n_k,)``, of the ``units[k] (n_k,)``."""
    groups = 1 + max(int(of.max()) for of in units)
    down, up, sums = [], [], []
    for part, of, weight in zip(values, units, weights, strict=True):
        mean, size = effective_share(part, of)
        low, high = score_interval(mean, size)
        below, above = abs(weight) * (mean - low), abs(weight) * (high - mean)
        down.append(below if weight > 0 else above)
        up.append(above if weight > 0 else below)
        sums.append(weight * np.bincount(of, part - mean, minlength=groups) / len(part))
    total = math.fsum(w * float(part.mean()) for w, part in zip(weights, values, strict=True))
    shared = _correlation(np.stack(sums))
    return total - _joined(np.array(down), shared), total + _joined(np.array(up), shared)


def _correlation(sums: _Floats) -> _Floats:
    """Of parts ``(k, units)``; parts that do not vary are correlated with none."""
    sizes = np.sqrt((sums**2).sum(1))
    unit = np.divide(sums, sizes[:, None], out=np.zeros_like(sums), where=sizes[:, None] > 0)
    matrix: _Floats = unit @ unit.T
    np.fill_diagonal(matrix, 1.0)
    return matrix


def _joined(distances: _Floats, correlation: _Floats) -> float:
    return math.sqrt(max(0.0, float(distances @ correlation @ distances)))


@dataclass(frozen=True, eq=False)
class _Stratum:
    """What one class adds to the variance of an area."""

    variance: float
    groups: int


def area_limits(scores: Sequence[Tensor], strata: Tensor, of: _Units) -> tuple[float, float, float]:
    """The macro AUC of :func:`.ranking.auc_interval` with its limits by unit."""
    labels, columns = strata.cpu().numpy(), [one.double().cpu().numpy() for one in scores]
    classes, once = [1] if len(columns) == 1 else list(range(len(columns))), np.ones((1, len(labels)))
    areas = [Ranking(s, labels == c).areas(once)[0] for s, c in zip(columns, classes, strict=True)]
    value = float(np.mean(areas))
    influence = np.mean([_placements(s, labels == c) for s, c in zip(columns, classes, strict=True)], axis=0)
    kinds, sums = [], np.zeros(int(of.max()) + 1)
    for label in np.unique(labels):
        inside = labels == label
        groups = len(np.unique(of[inside]))
        part = np.bincount(of[inside], influence[inside], minlength=len(sums)) * math.sqrt(groups / max(1, groups - 1))
        kinds.append(_Stratum(float(part @ part), groups))
        sums += part
    fewest, n = min(s.groups for s in kinds), len(labels)
    spread = max(float(sums @ sums), n / max(1, n - 1) * float(influence @ influence))
    if fewest < 2 or not 0 < value < 1 or not spread > 0:
        return value, *score_interval(value, float(fewest))
    size = value * (1 - value) / spread * (_Z / _t(_freedom(kinds))) ** 2
    return value, *score_interval(value, size)


def _placements(scores: _Floats, positive: NDArray[np.bool_]) -> _Floats:
    """The influence of each record ``(n,)`` on the AUC of ``scores (n,)``."""
    inside, outside = np.sort(scores[positive]), np.sort(scores[~positive])
    influence = np.empty(len(scores))
    first = _below(outside, scores[positive])
    second = 1 - _below(inside, scores[~positive])
    influence[positive] = (first - first.mean()) / len(inside)
    influence[~positive] = (second - second.mean()) / len(outside)
    return influence


def _below(ranked: _Floats, scores: _Floats) -> _Floats:
    """The share of ``ranked`` below each of ``scores``, ties counting half."""
    places = np.searchsorted(ranked, scores, "left") + np.searchsorted(ranked, scores, "right")
    share: _Floats = places / (2 * len(ranked))
    return share


def _freedom(strata: Sequence[_Stratum]) -> float:
    """Satterthwaite's degrees of freedom."""
    total = math.fsum(s.variance for s in strata)
    if not total > 0:
        return float(min(s.groups for s in strata) - 1)
    return total**2 / math.fsum(s.variance**2 / (s.groups - 1) for s in strata)


def mean_limits(values: Tensor, units: Tensor | None) -> tuple[float, float | None, float | None]:
    """Mean of ``values (n,)`` with Student's t interval over units; one unit alone has none."""
    of = several(units)
    if of is None:
        return across_seeds(values.tolist())
    numbers, groups = values.double().cpu().numpy(), int(of.max()) + 1
    mean = float(numbers.mean())
    if groups < 2:
        return mean, None, None
    half = _t(groups - 1) * math.sqrt(_variance((numbers - mean) / len(numbers), of, groups))
    return mean, mean - half, mean + half


def median_size(ranked: Tensor, units: Tensor | None) -> float:
    """Of how many independent records the median of ``ranked (n,)`` is, at most n."""
    of = several(units)
    if of is None:
        return float(len(ranked))
    numbers = ranked.double().cpu().numpy()
    return min(float(len(numbers)), effective_share(numbers <= np.median(numbers), of)[1])


def _t(freedom: float) -> float:
    return float(special.stdtrit(max(1.0, freedom), 0.975))
