"""Which models are not measurably better than the no-skill level: nothing can be read from a comparison of two such.

A model that learned nothing has nothing to lose by a defence and remembers no record, so that it costs nothing and
nothing leaks says nothing about the defence.  A model is judged by its own interval, over test records: with few seeds
the interval of their mean may hold the chance level although no model is near it.
"""

from __future__ import annotations

from collections.abc import Sequence

from consilium.report.load.records import CellRecord, StudyRecord

from .columns import TableColumn, measure_of, score_column
from .summary import Row

__all__ = ["unskilled", "unskilled_pairs", "unskilled_row"]


def unskilled(cell: CellRecord, column: TableColumn | None) -> bool:
    """True where the figure of ``cell`` in ``column`` is not above its chance level beyond its own interval."""
    measure = measure_of(cell, column.key) if column is not None and cell.judged else None
    if column is None or column.better != "high" or measure is None or measure.value is None or measure.chance is None:
        return False
    return (measure.value if measure.low is None else measure.low) <= measure.chance


def unskilled_row(study: StudyRecord, row: Row) -> bool:
    """True where every judged model of the row is so in the figure by which models are first read."""
    column, done = score_column(study), [cell for cell in row.cells if cell.judged]
    return bool(done) and all(unskilled(cell, column) for cell in done)


def unskilled_pairs(study: StudyRecord, pairs: Sequence[tuple[CellRecord, CellRecord]]) -> int:
    """Of how many pairs both models are so."""
    column = score_column(study)
    return sum(all(unskilled(cell, column) for cell in pair) for pair in pairs)
