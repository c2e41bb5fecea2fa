"""The ROC of every membership attack on one model, in one figure with chance and with what its claim allows.

Both axes are logarithmic, because what matters is the true positive rate at very low false positive rates.  Each
point rests on at least ten non-members of the judged half (LAWS 18) and is a rate over all of them, no record's score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from consilium.core.rounding import round_up
from consilium.measure.membership import best_threshold, highest_tpr, roc
from consilium.report.load.records import CellRecord, FindingRecord
from consilium.report.load.scores import read_scores

__all__ = ["rocs", "threshold_rates"]

_POINTS = 40


def rocs(cell: CellRecord) -> Mapping[str, object] | None:
    """``curves``: name and rates of each attack whose scores are there; ``bound``: the claim's, or None.

    None where no attack has a curve.
    """
    curves = [(finding.name, *_rates(read_scores(finding.file))) for finding in cell.aimed("membership")]
    curves = [(name, x, y) for name, x, y in curves if x]
    if not curves:
        return None
    least = min(x[0] for _, x, _ in curves)
    entries = [{"name": name, "x": _short(x), "y": _short(y)} for name, x, y in curves]
    grid = np.logspace(math.log10(least), 0, _POINTS).tolist()
    return {"curves": entries, "chance": [least, 1.0], "bound": _bound(cell, grid)}


def threshold_rates(finding: FindingRecord) -> tuple[float, float] | None:
    """True and false positive rate of the judged half at the threshold that the known half gives: the advantage's.

    None where the finding has no advantage, or its scores are not there.
    """
    scores = read_scores(finding.file)
    measure = finding.measure("advantage")
    parts = [torch.from_numpy(scores[name]) for name in ("score", "member", "known") if name in scores]
    if measure is None or measure.value is None or len(parts) < 3 or len({part.shape for part in parts}) > 1:
        return None
    score, member, known = parts[0], parts[1] > 0.5, parts[2] > 0.5
    if any(not member[half].any() or member[half].all() for half in (known, ~known)):
        return None
    above, inside = score[~known] >= best_threshold(score[known], member[known]), member[~known]
    rates = float(above[inside].double().mean()), float(above[~inside].double().mean())
    return rates if abs(rates[0] - rates[1] - measure.value) < 1e-6 else None


def _rates(scores: Mapping[str, object]) -> tuple[list[float], list[float]]:
    parts = [torch.from_numpy(scores[name]) for name in ("score", "member", "known") if name in scores]
    if len(parts) < 3 or len({part.shape for part in parts}) > 1:
        return [], []
    score, member, known = parts
    return roc(score, member > 0.5, known > 0.5)


def _bound(cell: CellRecord, grid: list[float]) -> Mapping[str, object] | None:
    """The highest curve that the claim allows; a claim of labels alone bounds no membership."""
    epsilon, delta = cell.privacy.record_epsilon, cell.privacy.delta or 0.0
    if epsilon is None:
        return None
    return {"epsilon": float(round_up(epsilon)), "x": grid, "y": _short([highest_tpr(x, epsilon, delta) for x in grid])}


def _short(values: list[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
