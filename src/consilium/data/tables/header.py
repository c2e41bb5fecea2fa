"""A line of names taken for a record: names given for a file with a header, two exports in one, a line of units.

    sex,stage,outcome      as the columns are called: refused in any row
    Sex,Tumour,Result      the first row, each cell of which is no number and occurs nowhere else in its column
    63,1,145,ill           as the header, if the label's name is one of its own words and the others are numbers or
                           words of theirs: a table without a header, whose first record is lost
    0,1,2,3                the first row where `columns` are given: the names that pandas gives columns without one

Where every column holds words, such a line would be a record of its own categories.  One of tables in which other rows
are as singular too (names, ids) is no sign, and neither is a row of a word that is declared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from consilium.core.errors import Refused
from consilium.data.columns.spelling import NUMBER

__all__ = ["check_first_record", "check_header", "check_no_header"]

_FEW = 8
"""Of fewer rows, one may differ from all others by chance."""
_COUNTED = 4
"""So many columns whose cells count them are no record."""
_SHOWN = 3


def check_no_header(frame: Any) -> None:
    """Refuse a row that holds its columns' names.

    Raises Refused: such a row.
    """
    names = [name.casefold() for name in frame.columns]
    first = frame.iloc[:, 0].map(lambda value: isinstance(value, str) and value.casefold() == names[0])
    rows = [row for row in frame.index[first] if [str(value).casefold() for value in frame.loc[row]] == names]
    if len(rows) == 1:
        raise Refused(
            f"row {rows[0]} holds the names of the columns",
            remedy="take that line out" if rows[0] > 1 else "take that line out, or leave out the knob columns",
        )
    if rows:
        raise Refused(
            f"rows {rows[0]} and {rows[1]} ({len(rows)} in all) hold the names of the columns",
            remedy="take those lines out if they are headers; if they are records, the file has no header: name the "
            "columns by the knob columns",
        )


def check_header(frame: Any, label: str) -> None:
    """Refuse names of the columns that are the cells of a record; ``label`` is the column of labels.

    Raises Refused: the table seems to have no header.
    """
    if label not in frame.columns or not _occurs(frame[label], label):
        return
    if all(NUMBER.fullmatch(name) or _occurs(frame[name], name) for name in frame.columns):
        shown = ", ".join(map(repr, list(frame.columns)[:_SHOWN]))
        raise Refused(
            f"the columns are called {shown}, ..., and {label!r} is a value of its column: the header seems to be a "
            "record",
            remedy="name the columns by the knob columns if the file has no header, or rename them",
            where="columns",
        )


def _occurs(column: Any, text: str) -> bool:
    return bool((column.astype(str) == text).any())


def check_first_record(frame: Any, listed: Mapping[str, Sequence[str]], *, named: bool) -> None:
    """Refuse a first row that seems to name the columns, by other names than theirs, or to give their units.

    ``listed`` are the declared categories of columns; ``named`` says that the study names the columns.

    Raises Refused: such a row.
    """
    cells = dict(zip(frame.columns, frame.iloc[0], strict=True))
    words = {name: cell for name, cell in cells.items() if isinstance(cell, str) and cell}
    if named and _counts(list(cells.values())):
        why = "which count the columns"
    elif _names(words, cells, listed) and len(frame) >= _FEW and _is_singular(frame, words):
        why = "which are no numbers and occur nowhere else in their columns"
    else:
        return
    shown = ", ".join(repr(str(cell)) for cell in list(words.values())[:_SHOWN])
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    raise Refused(
        f"row 1 holds {shown}{more}, {why}: it seems to be a line of names or units, and no record",
        remedy="take that line out"
        + (", or leave out the knob columns" if named else "")
        + "; if it is a record, declare its words in categories",
        where="columns" if named else "",
    )


def _counts(cells: Sequence[object]) -> bool:
    """0, 1, 2, ... or 1, 2, 3, ..., also after one letter (V1, V2), or with a blank for the row's own number."""
    texts = [cell for cell in cells if cell != ""]
    if len(texts) < _COUNTED or not all(isinstance(text, str) for text in texts):
        return False
    return any(texts == [f"{letter}{i}" for i in range(start, start + len(texts))]
        for letter in ("", "V", "X", "x", "col", "f") for start in (0, 1))  # fmt: skip


def _names(words: Mapping[str, str], cells: Mapping[str, object], listed: Mapping[str, Sequence[str]]) -> bool:
    """Whether the cells are words, two or more, none of them declared."""
    blank = sum(cell == "" for cell in cells.values())
    plain = not any(NUMBER.fullmatch(word) or word in listed.get(name, ()) for name, word in words.items())
    return plain and len(words) >= 2 and len(words) + blank == len(cells)


def _is_singular(frame: Any, words: Mapping[str, str]) -> bool:
    """Whether row 1 alone has ``words`` that occur nowhere else in their columns but in rows that equal it."""
    columns = frame[list(words)]
    same = (columns == columns.iloc[0]).all(axis=1)
    if any(int((columns[name] == word).sum()) != int(same.sum()) for name, word in words.items()):
        return False
    once = columns[~same].apply(lambda column: ~column.duplicated(keep=False))
    return bool(len(once)) and not bool(once.all(axis=1).any())
