"""What a model did with each record, read from the files beside its evidence, so that figures can be compared.

A figure is a weighted sum of means over strata of one value a record:

    accuracy, robust accuracy   right or not                                                   one stratum
    balanced accuracy           right or not                                                   a stratum a class
    membership advantage        taken for a member (+) or not, of members; of others (-)       members, non-members
    Dice, macro AUROC           in :mod:`..load.task_outcomes`

Two models are compared only where both cover the same records, and where these values give the figures shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from consilium.measure.membership import best_threshold
from consilium.measure.paired import Pair
from consilium.report.load.record_outcomes import RecordOutcomes
from consilium.report.load.records import CellRecord, FindingRecord
from consilium.report.load.scores import read_arrays, read_records
from consilium.report.load.task_outcomes import TASK_OUTCOMES

from .columns import measure_of

__all__ = ["LOST_SCORES", "Outcomes"]

_NO_SCORES = "not comparable: no scores"
LOST_SCORES = "not comparable: its scores are gone or changed"
"""The reason for a cell whose file of scores is missing or was changed."""


class Outcomes:
    """The outcomes of a study's cells, each read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], RecordOutcomes | str] = {}

    def of(self, cell: CellRecord, key: str) -> RecordOutcomes | str:
        """The outcomes behind the figure in column ``key``, or why they cannot be compared."""
        if (cell.digest, key) not in self._known:
            self._known[cell.digest, key] = _checked(cell, key)
        return self._known[cell.digest, key]

    def pair(self, cells: Sequence[tuple[int, CellRecord]], key: str) -> Pair | str:
        """The sum of these cells' outcomes, each with a sign, on the records that all of them share, or why not.

        One cell is its own figure; two (+1 after, -1 before) are a difference, four a difference of differences.
        """
        results = [self.of(cell, key) for _, cell in cells]
        outcomes = [outcome for outcome in results if isinstance(outcome, RecordOutcomes)]
        if len(outcomes) < len(results):
            return next(reason for reason in results if isinstance(reason, str))
        first = outcomes[0]
        if not all(np.array_equal(one.ids, first.ids) and np.array_equal(one.strata, first.strata) for one in outcomes):
            return "not comparable: other records"
        change = sum(
            (sign * one.values for (sign, _), one in zip(cells, outcomes, strict=True)), np.zeros(len(first.ids))
        )
        return Pair(cells[0][1].seed, change, first.units, first.strata, first.weights, max(1.0, len(cells) / 2))


def _checked(cell: CellRecord, key: str) -> RecordOutcomes | str:
    measure, outcomes = measure_of(cell, key), _read(cell, key)
    if measure is None or measure.value is None:
        return "not comparable: no figure"
    if isinstance(outcomes, RecordOutcomes) and abs(outcomes.figure - measure.value) > 1e-6:
        return "not comparable: its scores give another figure"
    return outcomes


def _read(cell: CellRecord, key: str) -> RecordOutcomes | str:
    if key.partition(":")[0] == "mia_advantage":
        return _membership(cell, key)
    if key in TASK_OUTCOMES:
        return _of_task(cell, key)
    records = read_records(cell.file)
    plain = key in ("accuracy", "balanced_accuracy")
    needed: tuple[CellRecord | FindingRecord, ...] = (cell, *([] if plain else _evasion_findings(cell, key)))
    if any(one.scores and one.file is None for one in needed):
        return LOST_SCORES
    right = records.get("correct") if plain else _stood(cell, key)
    whole = {"id", "unit", "label", "correct"} <= records.keys()
    if not whole or right is None or len(right) != len(records["id"]) or not len(right):
        return _NO_SCORES
    one = np.zeros(len(right), np.int64)
    if key != "balanced_accuracy":
        return RecordOutcomes.of(records["id"], records["unit"], right, one, (1.0,))
    classes, strata = np.unique(records["label"], return_inverse=True)
    weights = (1 / len(classes),) * len(classes)
    return RecordOutcomes.of(records["id"], records["unit"], right, strata.ravel(), weights)


def _of_task(cell: CellRecord, key: str) -> RecordOutcomes | str:
    if cell.scores and cell.file is None:
        return LOST_SCORES
    return TASK_OUTCOMES[key](read_arrays(cell.file)) or _NO_SCORES


def _stood(cell: CellRecord, key: str) -> NDArray[Any] | None:
    """Which test records withstood the attack of a column, or every one; None where a mask is missing."""
    masks = [read_records(finding.file).get("correct") for finding in _evasion_findings(cell, key)]
    if not masks or any(mask is None or mask.shape != masks[0].shape for mask in masks):  # type: ignore[union-attr]
        return None
    stood: NDArray[Any] = np.logical_and.reduce([mask > 0.5 for mask in masks if mask is not None])
    return stood


def _evasion_findings(cell: CellRecord, key: str) -> list[FindingRecord]:
    """The evasion attacks of a column, or the worst case of all where that was written down."""
    name = key.partition(":")[2]
    findings = [f for f in cell.aimed("evasion") if name in ("", f.name)]
    return [f for f in findings if f.kind == "worst-case"] or findings


def _membership(cell: CellRecord, key: str) -> RecordOutcomes | str:
    """The judged half, by the threshold that the known half gives."""
    finding = _seeing(cell, key)
    if finding is not None and finding.scores and finding.file is None:
        return LOST_SCORES
    scores = {} if finding is None else read_records(finding.file)
    if not {"id", "unit", "score", "member", "known"} <= scores.keys():
        return _NO_SCORES
    member, known = scores["member"] > 0.5, scores["known"] > 0.5
    score, judged = scores["score"].astype(np.float64), ~known
    if any(member[half].all() or not member[half].any() for half in (known, judged)):
        return "not comparable: a half lacks members or non-members"
    threshold = best_threshold(torch.from_numpy(score[known]), torch.from_numpy(member[known]))
    signs = (score >= threshold) * np.where(member, 1.0, -1.0)
    strata = (~member).astype(np.int64)
    return RecordOutcomes.of(scores["id"][judged], scores["unit"][judged], signs[judged], strata[judged], (1.0, 1.0))


def _seeing(cell: CellRecord, key: str) -> FindingRecord | None:
    """The finding whose advantage is shown in column ``key`` (:func:`.columns.measure_of`)."""
    measure = measure_of(cell, key)
    seeing = (f for f in cell.aimed("membership") if f.sees_model and key.partition(":")[2] in ("", f.name))
    return next((f for f in seeing if measure is not None and f.measure("advantage") == measure), None)
