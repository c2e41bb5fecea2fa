"""What each patient or record adds to the figure of a task other than one class a record.

    Dice           a patient's value is the mean over the patient's records           one stratum
    macro AUROC    mean over findings k of  mean_pos P_k + mean_neg (N_k - AUC_k)      positives and negatives of each k

P_k of a positive is the share of negatives that score below it (ties by half), N_k of a negative the share of
positives above it.  Both have the mean AUC_k, and what a record adds beyond it is its influence on AUC_k; the records
of a patient are one unit over all findings.

Source: DeLong et al. 1988 (placements); Obuchowski 1997 (clusters)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.measure.confidence.by_unit import unit_sums

from .record_outcomes import RecordOutcomes

__all__ = ["TASK_OUTCOMES", "dice_outcomes", "macro_auroc_outcomes", "placements"]

_Floats = NDArray[np.float64]
_Arrays = Mapping[str, NDArray[Any]]


def dice_outcomes(scores: _Arrays) -> RecordOutcomes | None:
    """A value for each patient; None where no Dice is stored."""
    if not {"unit", "dice"} <= scores.keys() or not len(scores["unit"]):
        return None
    sums = unit_sums(np.stack([scores["dice"], np.ones(len(scores["unit"]))], 1), scores["unit"])
    units = np.unique(scores["unit"])
    one = np.zeros(len(units), np.int64)
    return RecordOutcomes.of(units, units, sums[:, 0] / sums[:, 1], one, (1.0,))


def macro_auroc_outcomes(scores: _Arrays) -> RecordOutcomes | None:
    """A value for each record and finding; None where no answers are stored, or no finding has both kinds."""
    if not {"id", "unit", "answers", "truth"} <= scores.keys():
        return None
    truth = scores["truth"] > 0.5
    ranked = [k for k in range(truth.shape[1]) if 0 < truth[:, k].sum() < len(truth)]
    if not ranked:
        return None
    values = np.stack([placements(scores["answers"][:, k], truth[:, k]) for k in ranked], 1)
    strata = np.stack([2 * j + ~truth[:, k] for j, k in enumerate(ranked)], 1)
    ids, units = (np.repeat(scores[name], len(ranked)) for name in ("id", "unit"))
    return RecordOutcomes.of(ids, units, values.ravel(), strata.ravel(), (1 / len(ranked),) * (2 * len(ranked)))


def placements(scores: _Floats, positive: NDArray[np.bool_]) -> _Floats:
    """P of each positive and N - AUC of each negative ``(n,)``; both kinds are there."""
    above, below = np.sort(scores[positive]), np.sort(scores[~positive])
    result = np.empty(len(scores))
    result[positive] = _share_below(below, scores[positive])
    result[~positive] = 1 - _share_below(above, scores[~positive])
    result[~positive] -= result[positive].mean()
    return result


def _share_below(ordered: _Floats, values: _Floats) -> _Floats:
    """The share of ``ordered`` below each of ``values``, ties by half."""
    shares: _Floats = (np.searchsorted(ordered, values) + np.searchsorted(ordered, values, "right")) / (
        2 * len(ordered)
    )
    return shares


TASK_OUTCOMES: Mapping[str, Callable[[_Arrays], RecordOutcomes | None]] = {
    "dice": dice_outcomes,
    "macro_auroc": macro_auroc_outcomes,
}
"""By the column whose figure they give."""
