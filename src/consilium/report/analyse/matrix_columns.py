"""Which columns stand in the matrix, so that it fits a screen, and which in the table of all other measures.

Moved there: each evasion attack where their worst case is shown (the heat map has them all), figures that qualify
another (calibration, AUC beside advantage), and a figure that differs from an earlier one of its group by less than
0.02 in every row, which is read twice for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from consilium.report.load.records import StudyRecord

from .columns import TableColumn, columns, score_column
from .summary import Row

__all__ = ["main_columns", "other_columns"]

_QUALIFIES = {
    "auroc": ("accuracy",),
    "macro_average_precision": ("macro_auroc",),
    "brier_score": ("accuracy",),
    "expected_calibration_error": ("accuracy",),
    "personal_worst_accuracy": ("personal_accuracy",),
    "mia_auc": ("mia_advantage",),
    "seconds": ("accuracy", "bytes"),
}
"""Columns that qualify one of these: moved where that one is shown."""
_ALIKE = 0.02
_MOST = 10
"""Columns that fit 1400 pixels beside the arms, with intervals."""


def main_columns(study: StudyRecord, every: Sequence[Row]) -> tuple[TableColumn, ...]:
    """At most ten, in the order of :func:`.columns.columns`; by the first of them models are first read."""
    score = score_column(study)
    shown = sorted(columns(study), key=lambda column: column != score)
    keys = {column.key for column in shown}
    main: list[TableColumn] = []
    for column in shown:
        moved = any(key in keys for key in _QUALIFIES.get(column.key, ()))
        moved |= column.robustness and column.key != "worst_case" and "worst_case" in keys
        if not moved and not any(_alike(column, other, every) for other in main):
            main.append(column)
    return tuple(main[:_MOST])


def other_columns(study: StudyRecord, every: Sequence[Row]) -> tuple[TableColumn, ...]:
    """The rest, in the same order."""
    main = {column.key for column in main_columns(study, every)}
    return tuple(column for column in columns(study) if column.key not in main)


def _alike(column: TableColumn, other: TableColumn, every: Sequence[Row]) -> bool:
    """Whether both say the same of every row; false where none has both figures."""
    if (column.group, column.style, column.better) != (other.group, "share", other.better):
        return False
    figures = [(row.figures[column.key].value, row.figures[other.key].value) for row in every]
    if any((a is None) != (b is None) for a, b in figures):
        return False
    known = [(a, b) for a, b in figures if a is not None and b is not None]
    return bool(known) and all(abs(a - b) < _ALIKE for a, b in known)
