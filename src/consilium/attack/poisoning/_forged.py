"""What corruptions share that forge what is sent: the ``delta`` of an update, read, put in place, scaled and bounded.

What else travels beside ``delta`` (running statistics, control variates) stays as the site's own training made it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist

import torch
from torch import Tensor

from consilium.core.update import Update

__all__ = ["bounded", "deltas", "hidden_deviations", "replacement_factor", "scaled", "with_delta"]

_DELTA, _SCALED = "delta", ("delta", "buffers")


def deltas(updates: Iterable[Update]) -> Tensor:
    """Those of ``updates`` ``(n, d)``; ``(0, 0)`` of none."""
    rows = [update.payload[_DELTA] for update in updates if _DELTA in update.payload]
    return torch.stack(rows) if rows else torch.zeros(0, 0)


def with_delta(updates: Sequence[Update], delta: Tensor) -> list[Update]:
    """``updates`` that all say ``delta (d,)``."""
    return [replace(update, payload={**update.payload, _DELTA: delta.clone()}) for update in updates]


def scaled(update: Update, factor: float) -> Update:
    """``update`` with ``factor`` times the change of parameters and running statistics."""
    changed = {name: tensor * factor for name, tensor in update.payload.items() if name in _SCALED}
    return replace(update, payload={**update.payload, **changed})


def bounded(update: Update, within: float | None) -> Update:
    """``update`` whose delta is at most ``within`` long; as it is where that is None."""
    if within is None:
        return update
    delta = update.payload[_DELTA]
    norm = float(torch.linalg.vector_norm(delta, dtype=torch.float64))
    if norm <= within:
        return update
    return replace(update, payload={**update.payload, _DELTA: delta * (within / norm * (1 - 1e-6))})


def replacement_factor(updates: Sequence[Update], weights: Mapping[str, float]) -> float:
    """By how much the colluders' ``updates`` must be scaled for their mean to be the merged one: all weights by theirs.

    With equal weights, one of them and a server rate of 1 that is n, the paper's n / eta.
    """
    colluding = sum(update.weight for update in updates)
    return max(1.0, sum(weights.values()) / colluding) if colluding > 0 else 1.0


def hidden_deviations(corrupted: int, sites: int) -> float:
    """How many deviations ``corrupted`` of so many ``sites`` can be out and be taken for the middle; the z of ALIE.

    0 or less where they are too few to hide; -inf and inf stand for a quantile at 0 and 1.

    Source: Baruch et al. 2019, arXiv 1902.06156, algorithm 3
    """
    honest, supporters = sites - corrupted, sites // 2 + 1 - corrupted
    share = (honest - supporters) / honest
    return NormalDist().inv_cdf(share) if 0 < share < 1 else math.copysign(math.inf, share - 0.5)
