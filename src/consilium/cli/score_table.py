"""The figure that models of another task than one class a record are first read by, as a table for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from ..report.analyse.columns import TableColumn
    from ..report.analyse.summary import Row
    from ..report.load.records import StudyRecord

__all__ = ["score_table"]


def score_table(folder: Path) -> Table | None:
    """A row an arm and infection with the score, its interval and accuracy; None where accuracy is the score.

    Below it stand what the score means, and when an answer is right: by which tolerance or threshold.
    """
    from ..report.analyse.columns import score_column
    from ..report.analyse.summary import rows
    from ..report.load.read import read_study

    study = read_study(folder)
    column = score_column(study)
    if column is None or column.key == "accuracy":
        return None
    table = _empty(study, column)
    for row in rows(study):
        if row.judged:
            table.add_row(*_cells(row, column))
    return table


def _empty(study: StudyRecord, column: TableColumn) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ..report.render.claim_text import right_answer

    caption = f"{column.label}: {column.meaning} {right_answer(study)}".rstrip()
    title = f"{study.name}: models are first read by {column.label}"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=SIMPLE_HEAD)
    table.add_column("arm", overflow="fold")
    for heading in (column.label, "95 % interval", "accuracy"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cells(row: Row, column: TableColumn) -> tuple[str, ...]:
    from ..report.load.numbers import interval, number

    score, accuracy = row.figures[column.key], row.figures["accuracy"]
    return (
        row.arm.name if row.infected_by == "none" else f"{row.arm.name}, infected by {row.infected_by}",
        number(score.value, column.style) if score.value is not None else "–",
        interval(score.low, score.high, column.style),
        number(accuracy.value) if accuracy.value is not None else "–",
    )
