"""How well scores separate members from non-members; the higher the score, the likelier a member.

    advantage = TPR - FPR at one threshold        TPR at FPR f = share of members above the f-quantile of non-members

The threshold of the advantage is learned on the calibration half (``known``), and every figure is judged on the other
half: so an attack without information is at chance.  TPR at FPR f needs 10/f judged non-members (LAWS 18).
Intervals: Newcombe for the advantage, the bootstrap for AUC, Clopper-Pearson for the TPR at the threshold found; by
unit where patients have several records (:mod:`.clustered`).

The bound of (epsilon, delta) on any attack on whether one record was added:

    TPR <= min(e^eps FPR + delta, 1 - e^-eps (1 - delta - FPR))      advantage <= (e^eps - 1 + 2 delta) / (e^eps + 1)
    AUC <= 1 - (1 - delta)^2 / (1 + e^eps)                           (the area under that curve)

Source: Yeom et al. 2018, arXiv 1709.01604 (advantage); Carlini et al. 2022, arXiv 2112.03570 (TPR at low FPR);
Kairouz et al. 2015, arXiv 1311.0776 (the bounds).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.finding import Measure
from consilium.core.random import Stream

from .clustered import area_limits, combined_limits, effective_share, several
from .intervals import clopper_pearson, difference
from .ranking import auc_interval

__all__ = ["best_threshold", "bounds", "highest_tpr", "membership", "roc"]

_Units = NDArray[np.int64]
_Pair = tuple[float, float]
_Limits = tuple[float, float, float]
_NAMES = ("advantage", "auc", "tpr_at_fpr_1", "tpr_at_fpr_0.1")
_RATES = {"tpr_at_fpr_1": 100, "tpr_at_fpr_0.1": 1000}
"""Name -> 1 / f."""


def membership(
    scores: Tensor, member: Tensor, stream: Stream, *, known: Tensor, units: Tensor | None = None
) -> tuple[Measure, ...]:
    """Advantage, AUC, TPR at 1 % and at 0.1 % FPR of ``scores (n,)``.

    ``member (n,)`` bool is the truth; ``known (n,)`` bool marks the half on which the threshold is learned.  Chance is
    0, .5, .01 and .001.  A half without members or without non-members leaves the figures undefined.
    Where ``units (n,)`` have several records, members and others vary by unit (:mod:`.clustered`).

    Raises Refused: shapes differ, or a score is not finite.
    """
    if not scores.shape == member.shape == known.shape or scores.dim() != 1:
        raise Refused(
            f"scores {tuple(scores.shape)}, member {tuple(member.shape)} and known {tuple(known.shape)} differ"
        )
    if not scores.isfinite().all():
        raise Refused("membership scores must be finite", remedy="clamp them at a stated floor")
    values, truth, calibration = scores.detach().double().cpu(), member.bool().cpu(), known.bool().cpu()
    for name, half in (("calibration", calibration), ("judged", ~calibration)):
        if truth[half].all() or not truth[half].any():
            reason = f"the {name} half lacks members or non-members"
            return tuple(Measure.undefined(measure, reason, len(scores)) for measure in _NAMES)
    threshold = best_threshold(values[calibration], truth[calibration])
    of = several(None if units is None else units.cpu()[~calibration])
    return _advantage_and_auc(values[~calibration], truth[~calibration], threshold, of, stream)


def bounds(measures: Sequence[Measure], epsilon: float, delta: float) -> tuple[Measure, ...]:
    """For each figure of :func:`membership` that has a value, the most that a claim of ``epsilon``, ``delta`` allows.

    Named ``<figure>_bound``; ``n`` is that of the figure it belongs to.
    """
    apart = math.exp(min(epsilon, 700.0))
    most = {"advantage": (apart - 1 + 2 * delta) / (apart + 1), "auc": 1 - (1 - delta) ** 2 / (1 + apart)}
    most |= {name: highest_tpr(1 / inverse, epsilon, delta) for name, inverse in _RATES.items()}
    known = [m for m in measures if m.name in most and m.value is not None]
    return tuple(Measure(f"{m.name}_bound", most[m.name], n=m.n) for m in known)


def highest_tpr(fpr: float, epsilon: float, delta: float) -> float:
    """The true positive rate that no attack exceeds at ``fpr``, in 0 to 1."""
    apart = math.exp(min(epsilon, 700.0))
    return max(0.0, min(apart * fpr + delta, 1 - (1 - delta - fpr) / apart, 1.0))


def roc(scores: Tensor, member: Tensor, known: Tensor, points: int = 60) -> tuple[list[float], list[float]]:
    """False and true positive rates on the judged half, ascending, evenly spaced in the logarithm of the former.

    No point rests on fewer than ten non-members (LAWS 18).  Empty where the half lacks members or has too few others.
    """
    judged = ~known.bool()
    inside = scores[judged & member.bool()]
    outside = scores[judged & ~member.bool()].sort(descending=True).values
    if not len(inside) or len(outside) < 20:
        return [], []
    grid = torch.logspace(math.log10(10), math.log10(len(outside) - 1), points, dtype=torch.float64)
    allowed = torch.unique(grid.round().long().clamp(max=len(outside) - 1))
    above = [float((inside > outside[k]).double().mean()) for k in allowed]
    return [*(allowed.double() / len(outside)).tolist(), 1.0], [*above, 1.0]


def best_threshold(scores: Tensor, member: Tensor) -> float:
    """The score from which on to answer "member" so that TPR - FPR on these records is largest.

    It is half-way between two scores.  If no threshold beats chance it is above all scores: no record is called a
    member.
    """
    ranked, order = scores.double().sort(descending=True, stable=True)
    truth = member[order].bool()
    gain = torch.cumsum(truth / truth.sum() - (~truth).double() / (~truth).sum(), 0)
    last = torch.cat([ranked[1:] != ranked[:-1], torch.ones(1, dtype=torch.bool, device=ranked.device)])
    gain = torch.where(last, gain, -math.inf)  # tied scores are taken together or not at all
    best = int(gain.argmax())
    if gain[best] <= 1e-12:
        return math.nextafter(float(ranked[0]), math.inf)
    return float(ranked[best]) if best + 1 == len(ranked) else float((ranked[best] + ranked[best + 1]) / 2)


def _advantage_and_auc(
    scores: Tensor, member: Tensor, threshold: float, of: _Units | None, stream: Stream
) -> tuple[Measure, ...]:
    inside, outside = scores[member], scores[~member]
    positive = scores >= threshold
    hits, mistaken = int(positive[member].sum()), int(positive[~member].sum())
    gap = hits / len(inside) - mistaken / len(outside)
    limits, area = (
        _by_record(scores, member, positive, stream) if of is None else _by_unit(scores, member, positive, of)
    )
    units = 0 if of is None else int(of.max()) + 1
    members = None if of is None else of[member.numpy()]
    return (
        Measure("advantage", gap, *limits, 0.0, len(scores), unit_count=units),
        Measure("auc", *area, 0.5, len(scores), unit_count=units),
        *(_low_rate(name, inside, outside, inverse, members) for name, inverse in _RATES.items()),
    )


def _by_record(scores: Tensor, member: Tensor, positive: Tensor, stream: Stream) -> tuple[_Pair, _Limits]:
    """Limits of the advantage; the AUC with its own."""
    hits, mistaken, n = int(positive[member].sum()), int(positive[~member].sum()), int(member.sum())
    limits = difference(hits, n, mistaken, len(scores) - n)
    return limits, auc_interval([scores], member.long(), stream.child("auc"))


def _by_unit(scores: Tensor, member: Tensor, positive: Tensor, of: _Units) -> tuple[_Pair, _Limits]:
    """The same where units have several records."""
    masks = (member.numpy(), ~member.numpy())
    low, high = combined_limits([positive.double().numpy()[m] for m in masks], [of[m] for m in masks], [1.0, -1.0])
    return (max(-1.0, low), min(1.0, high)), area_limits([scores], member.long(), of)


def _low_rate(name: str, inside: Tensor, outside: Tensor, inverse: int, units: _Units | None) -> Measure:
    if len(outside) < 10 * inverse:
        return Measure.undefined(name, f"not resolvable (n = {len(outside)})", len(outside))
    allowed = len(outside) // inverse
    threshold = outside.sort(descending=True).values[allowed]
    above = inside > threshold  # strictly: at most `allowed` non-members are, ties or not
    k, n = int(above.sum()), len(inside)
    if units is None:
        return Measure(name, k / n, *clopper_pearson(k, n), 1 / inverse, n)
    share, size = effective_share(above.numpy(), units)
    limits = clopper_pearson(share * size, size)
    return Measure(name, k / n, *limits, 1 / inverse, n, unit_count=len(np.unique(units)))
