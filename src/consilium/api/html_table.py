"""A study as one small HTML table, for a notebook: arms as rows, means over seeds with their intervals.

Every text of it is escaped: names come from a study's author, and evidence may come from elsewhere.
"""

from __future__ import annotations

from html import escape

from consilium.core.count_words import count_words
from consilium.report.analyse.columns import TableColumn, columns
from consilium.report.analyse.summary import Figure, Row, rows
from consilium.report.load.numbers import interval, number
from consilium.report.load.records import StudyRecord

__all__ = ["html_table"]

_MOST = 40
"""Rows that are shown."""
_CAPTION = "text-align: left"


def html_table(study: StudyRecord) -> str:
    """The matrix of the study; of many rows the first, and how many more there are."""
    shown, every = _shown(study), rows(study)
    head = "".join(f'<th title="{escape(c.meaning)}">{escape(c.label)}</th>' for c in shown)
    body = "".join(_row(row, shown, infections=len(study.infections) > 1) for row in every[:_MOST])
    infected = "<th>infected by</th>" if len(study.infections) > 1 else ""
    more = f"; {count_words(len(every) - _MOST, 'more row')} in table.csv" if len(every) > _MOST else ""
    seeds = f"mean over {len(study.seeds)} seeds" if len(study.seeds) > 1 else "one seed"
    return (
        f'<table><caption style="{_CAPTION}">{escape(study.name)}: {seeds}, 95 % intervals{more}</caption>'
        f"<thead><tr><th>arm</th>{infected}{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _shown(study: StudyRecord) -> list[TableColumn]:
    return [column for column in columns(study) if column.key != "seconds"]


def _row(row: Row, shown: list[TableColumn], *, infections: bool) -> str:
    infected = f"<td>{escape(row.infected_by)}</td>" if infections else ""
    state = "" if row.status == "ok" else f"<br><small>{escape(row.status)}</small>"
    cells = "".join(f"<td>{_text(row.figures[column.key], column)}</td>" for column in shown)
    return f"<tr><th>{escape(row.arm.name)}{state}</th>{infected}{cells}</tr>"


def _text(figure: Figure, column: TableColumn) -> str:
    bound = "≤ " if figure.at_most and figure.value is not None else ""
    between = interval(figure.low, figure.high, column.style)
    small = f"<br><small>{escape(between)}</small>" if between and column.group != "Cost" else ""
    return f"{escape(bound + number(figure.value, column.style))}{small}"
