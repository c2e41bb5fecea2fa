"""What may explain successful membership inference: how differently a model answers its training records.

    generalisation gap     accuracy on members - accuracy on non-members;   mean loss on non-members - on members
    margin                 logit of the true class - largest other logit (without classes: how far from wrong),
                           its 5, 25, 50, 75 and 95 % quantiles

A threshold on the loss infers membership exactly as well as the two losses differ, so the gap mediates membership;
small margins are what evasion moves over the boundary first.  They are **not an attack**: they explain the result of
one, and do not bound that of a stronger one.  Log-probabilities have the same margins as the logits they came from.

Accuracies have the interval of a bounded mean by unit, the gap that of a paired difference of two strata
(:mod:`.paired`); losses and quantiles are resampled by unit, members and non-members apart.  ``chance`` of a gap is 0.

Source: Yeom et al. 2018, arXiv 1709.01604 (gap and membership); Duddu et al. 2023, SoK: Unintended Interactions among
Machine Learning Defenses and Risks, arXiv 2312.04542 (overfitting and memorisation as the common cause).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.core.task import Task

from .clustered import unit_count
from .confidence.by_unit import drawn_units, resampled_sums, unit_sums
from .confidence.probabilities import check_answers, no_answers
from .paired import Pair, bounded_mean, paired

__all__ = ["MEDIATORS", "mediators", "no_mediators"]

_POOLS = ("members", "non_members")
_QUANTILES = (5, 25, 50, 75, 95)
MEDIATORS = (
    *(f"accuracy_{pool}" for pool in _POOLS),
    "generalisation_gap",
    *(f"loss_{pool}" for pool in _POOLS),
    "generalisation_gap_loss",
    *(f"margin_{pool}_q{q:02d}" for pool in _POOLS for q in _QUANTILES),
)
"""Their names, in the order in which they are written."""
_REPEATS = 1000
_Floats = NDArray[np.float64]
_Limits = tuple[float, float, float]
_Size = tuple[int, int]
"""Records, and the units that they are of; 0 where each is its own."""


def mediators(
    logits: Tensor, y: Tensor, member: Tensor, units: Tensor, task: Task, stream: Stream
) -> tuple[Measure, ...]:
    """All of :data:`MEDIATORS` from ``logits (n, ...)``, ``y (n, ...)``, ``member (n,)`` bool and ``units (n,)``.

    Undefined where answers are not finite, or where there are no members or no others.

    Raises Refused: shapes or labels do not fit.
    """
    if task.exclusive:
        check_answers(logits, y)
    if not member.shape == units.shape == y.shape[:1] == logits.shape[:1]:
        raise Refused(f"member {tuple(member.shape)}, units {tuple(units.shape)}, labels {tuple(y.shape)} differ")
    z, labels, inside = logits.detach().cpu().double(), y.cpu(), member.cpu().bool()
    if reason := _missing(z, inside):
        return no_mediators(reason, len(y))
    values = _values(z, labels, task)
    pools = [_Pool({k: v[at].numpy() for k, v in values.items()}, units.cpu()[at].numpy()) for at in (inside, ~inside)]
    return tuple(_measures(pools[0], pools[1], stream))


def _values(z: Tensor, labels: Tensor, task: Task) -> dict[str, Tensor]:
    """Verdict, loss and margin of each record, ``(n,)`` float64."""
    right = task.right(z, labels).double()
    if not task.exclusive:
        return {"right": right, "loss": task.losses(z, labels).double(), "margin": -task.margin(z, labels).double()}
    true = z.gather(1, labels[:, None])[:, 0]
    margin = true - z.scatter(1, labels[:, None], -torch.inf).max(1).values
    return {"right": right, "loss": z.logsumexp(1) - true, "margin": margin}


def no_mediators(reason: str, n: int = 0) -> tuple[Measure, ...]:
    """All of :data:`MEDIATORS`, undefined."""
    return tuple(Measure.undefined(name, reason, n) for name in MEDIATORS)


def _missing(logits: Tensor, member: Tensor) -> str:
    if reason := no_answers(logits):
        return reason
    if member.all() or not member.any():
        return f"there are no {_POOLS[bool(member.all())].replace('_', '-')}"
    infinite = int((~logits.isfinite()).flatten(1).any(1).sum())
    return f"the model answers infinities for {infinite} of {len(logits)} records" if infinite else ""


class _Pool:
    """Members or non-members: one value a record of each kind."""

    def __init__(self, values: Mapping[str, _Floats], units: NDArray[np.int64]) -> None:
        self.values, self.units, self.n = values, units, len(units)

    def means(self, stream: Stream) -> _Floats:
        """The mean loss of every resample ``(repeats,)``."""
        sums = unit_sums(np.c_[self.values["loss"], np.ones(self.n)], self.units)
        resamples = resampled_sums(sums, stream, _REPEATS)
        means: _Floats = resamples[:, 0] / resamples[:, 1]
        return means

    def quantiles(self, stream: Stream) -> list[_Limits]:
        """Each quantile of the margin with its limits: the least margin below which that share of records is."""
        order = self.values["margin"].argsort(kind="stable")
        ranked = self.values["margin"][order]
        different, of = np.unique(self.units, return_inverse=True)
        of = of.ravel()[order]
        samples = np.concatenate(
            [_at_shares(ranked, counts[:, of]) for counts in drawn_units(len(different), stream, _REPEATS, self.n)]
        )
        values = _at_shares(ranked, np.ones((1, self.n)))[0]
        low, high = np.quantile(samples, [0.025, 0.975], axis=0, method="inverted_cdf")
        return [(float(v), float(min(a, v)), float(max(b, v))) for v, a, b in zip(values, low, high, strict=True)]


def _at_shares(ranked: _Floats, counts: _Floats) -> _Floats:
    """Quantiles ``(r, 5)`` of ``ranked (n,)``, each record ``counts (r, n)`` times there."""
    below = counts.cumsum(1)
    wanted = np.array(_QUANTILES)[:, None] / 100 * below[:, -1]
    places = [(below < want[:, None] - 1e-9).sum(1) for want in wanted]
    return np.stack([ranked[place] for place in places], axis=1)


def _measures(inside: _Pool, outside: _Pool, stream: Stream) -> list[Measure]:
    pools = (inside, outside)
    whole = _size(np.concatenate([pool.units for pool in pools]))
    shares = [bounded_mean(pool.values["right"], pool.units, 0.0, 1.0) for pool in pools]
    means = [pool.means(stream.child("loss", name)) for pool, name in zip(pools, _POOLS, strict=True)]
    losses = [float(pool.values["loss"].mean()) for pool in pools]
    figures: list[tuple[_Limits, float | None, _Size]] = [
        *((share, None, _size(pool.units)) for share, pool in zip(shares, pools, strict=True)),
        (_gap(inside, outside), 0.0, whole),
        *(
            (_spread(loss, mean), None, _size(pool.units))
            for loss, mean, pool in zip(losses, means, pools, strict=True)
        ),
        (_spread(losses[1] - losses[0], means[1] - means[0]), 0.0, whole),
        *(
            (limits, None, _size(pool.units))
            for pool, name in zip(pools, _POOLS, strict=True)
            for limits in pool.quantiles(stream.child("margin", name))
        ),
    ]
    return [
        Measure(name, *limits, chance, count, unit_count=units)
        for name, (limits, chance, (count, units)) in zip(MEDIATORS, figures, strict=True)
    ]


def _size(units: NDArray[np.int64]) -> _Size:
    return len(units), unit_count(torch.from_numpy(units))


def _gap(inside: _Pool, outside: _Pool) -> _Limits:
    """Mean over members minus mean over non-members, each a stratum of its own."""
    pools = (inside, outside)
    strata = np.repeat([0, 1], [pool.n for pool in pools])
    right, units = (np.concatenate([a, b]) for a, b in ((p.values["right"] for p in pools), (p.units for p in pools)))
    return paired([Pair(0, right, units, strata, (1.0, -1.0))])


def _spread(value: float, resamples: _Floats) -> _Limits:
    low, high = np.quantile(resamples, [0.025, 0.975]).tolist()
    return value, min(value, low), max(value, high)
