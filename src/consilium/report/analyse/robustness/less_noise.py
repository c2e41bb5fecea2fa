"""An infected model of an arm with differential privacy that looks better than its clean twin, and why.

A corrupted site obeys no site half of a defence (LAWS 4): it neither clips nor adds its noise, so there is less noise
in the infected model.  Its better figure is no merit of the corruption, and beside the figure that is said.
"""

from __future__ import annotations

from collections.abc import Sequence

from consilium.core.count_words import count_words
from consilium.report.analyse.columns import TableColumn, score_column
from consilium.report.analyse.compare import valued
from consilium.report.analyse.effects import less_noise
from consilium.report.analyse.summary import Row
from consilium.report.load.numbers import number
from consilium.report.load.records import CellRecord, StudyRecord

__all__ = ["less_noise_at", "less_noise_note"]

_Place = tuple[str, str, str]


def less_noise_at(study: StudyRecord, rows: Sequence[Row], columns: Sequence[TableColumn]) -> frozenset[_Place]:
    """Arm, infection and column of the figures of utility that are better than the clean twin's for less noise."""
    twins = {row.arm.name: row for row in rows if row.infected_by == "none"}
    noisy = [row for row in rows if row.infected_by in less_noise(study) and any(map(_claims, row.cells))]
    return frozenset(
        (row.arm.name, row.infected_by, column.key)
        for row in noisy
        for column in columns
        if column.group == "Utility" and row.arm.name in twins and _better(row, twins[row.arm.name], column)
    )


def less_noise_note(study: StudyRecord, cell: CellRecord) -> str:
    """The same of one model, with both figures, as sentences; empty where it does not look better than its twin."""
    column, twin = score_column(study), _twin(study, cell)
    if column is None or twin is None or cell.infected_by not in less_noise(study) or not _claims(cell):
        return ""
    one, other = (valued(judged, column.key) for judged in (cell, twin))
    if one is None or other is None or not _higher(one, other, column):
        return ""
    sites, whole = count_words(len(cell.corrupted), "corrupted site"), len(study.data.sites)
    return (
        f"Its {column.label} is {number(one, column.style)}, that of its clean twin {number(other, column.style)}. "
        f"That is no merit of the corruption: the {sites}{f' of {whole}' if whole else ''} "
        f"{'obeys' if len(cell.corrupted) == 1 else 'obey'} no site half of a defence, so less noise is in this model "
        "(LAWS 4), and its ε is claimed for the honest sites alone."
    )


def _claims(cell: CellRecord) -> bool:
    """True where noise is added by the sites."""
    return cell.judged and any(claim.unit != "site" for claim in cell.privacy.claims)


def _twin(study: StudyRecord, cell: CellRecord) -> CellRecord | None:
    twins = study.arm_cells(cell.arm, "none") if cell.infected_by != "none" else ()
    return next((twin for twin in twins if twin.seed == cell.seed and twin.judged), None)


def _better(row: Row, twin: Row, column: TableColumn) -> bool:
    one, other = row.figures[column.key].value, twin.figures[column.key].value
    return one is not None and other is not None and _higher(one, other, column)


def _higher(one: float, other: float, column: TableColumn) -> bool:
    return one > other if column.better == "high" else one < other
