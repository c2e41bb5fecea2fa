"""How well times to an event are foretold, where some are censored.

    c-index    of the pairs whose order is known (the earlier one had the event), how many have the higher risk first;
               equal risks count half                                  chance 1/2
    Brier      mean (S(h) - [without the event at h])^2 over the records whose state at the horizon h is known
                                                                       chance: always their share, p (1 - p)

Who was censored before the horizon has no known state there and is left out of the Brier score; n says how many are in.
Intervals resample units (patients) with all their records.

Source: Harrell et al. 1982, Evaluating the yield of medical tests; Graf et al. 1999 (Brier, here without weights)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.measure.confidence.by_unit import drawn_units
from consilium.measure.paired import bounded_mean

__all__ = ["concordance", "survival_figures"]

_Floats = NDArray[np.float64]


def survival_figures(
    risk: Tensor, survival: Tensor, y: Tensor, horizon: float, units: Tensor, stream: Stream
) -> tuple[Measure, ...]:
    """c_index of ``risk (n,)``, brier_score of ``survival (n,)`` at the ``horizon``; ``y (n, 2)``: time, event."""
    time, event = y[:, 0].double().numpy(), y[:, 1].numpy() > 0.5
    ids: NDArray[np.int64] = units.numpy()
    known = (event & (time <= horizon)) | (time > horizon) | (~event & (time == horizon))
    return _c_index(risk.double().numpy(), time, event, ids, stream), _brier(
        survival.double().numpy()[known], (~(event & (time <= horizon)))[known], ids[known], len(y)
    )


def concordance(risk: _Floats, time: _Floats, event: NDArray[np.bool_]) -> float | None:
    """Harrell's c; None where no pair can be compared."""
    won, pairs = _pairs(risk, time, event)
    total = float(pairs.sum())
    return float(won.sum()) / total if total else None


def _pairs(risk: _Floats, time: _Floats, event: NDArray[np.bool_]) -> tuple[_Floats, _Floats]:
    """For each ordered pair (i before j): what it scores (1, 1/2 or 0), and whether it counts, ``(n, n)``."""
    first = event[:, None] & ((time[:, None] < time[None]) | ((time[:, None] == time[None]) & ~event[None]))
    counted = first.astype(np.float64)
    return counted * ((risk[:, None] > risk[None]) + 0.5 * (risk[:, None] == risk[None])), counted


def _c_index(
    risk: _Floats, time: _Floats, event: NDArray[np.bool_], units: NDArray[np.int64], stream: Stream
) -> Measure:
    won, pairs = _pairs(risk, time, event)
    total = float(pairs.sum())
    if not total:
        return Measure.undefined("c_index", "no two records can be put in order: there are too few events", len(time))
    different, of = np.unique(units, return_inverse=True)
    samples = []
    for counts in drawn_units(len(different), stream.child("pairs"), width=4 * len(time)):
        weights = counts[:, of.ravel()]
        above, below = (np.einsum("ri,ri->r", weights @ table, weights) for table in (won, pairs))
        samples.append(np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0))
    rates = np.concatenate(samples)
    low, high = np.quantile(rates[~np.isnan(rates)], [0.025, 0.975])
    value = float(won.sum()) / total
    return Measure("c_index", value, float(min(low, value)), float(max(high, value)), 0.5, len(time))


def _brier(survival: _Floats, alive: NDArray[np.bool_], units: NDArray[np.int64], n: int) -> Measure:
    if not len(alive):
        return Measure.undefined("brier_score", "no record's state at the horizon is known", n)
    share = float(alive.mean())
    losses = (survival - alive) ** 2
    return Measure("brier_score", *bounded_mean(losses, units, 0.0, 1.0), share * (1 - share), len(alive))
