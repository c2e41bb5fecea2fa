"""A table file -> a frame without gaps, read by pandas (an optional extra).

A CSV is read as text, every cell of it, so that a name is never read as a number; Parquet has types of its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from consilium.core.errors import ConsiliumError, MissingExtra, Refused
from consilium.core.stored_input import shown_input
from consilium.data.checks.gap_words import GAPS, is_spreadsheet_error
from consilium.data.columns.gap_cells import texts_among
from consilium.data.columns.spelling import NUMBER, exact, plain_text
from consilium.data.tables.csv_rows import read_csv
from consilium.data.tables.header import check_no_header

__all__ = ["check_missing", "gaps_of", "is_parquet", "read_table"]

_PARQUET = (".parquet", ".pq")
_MOST_COMPARED = 5000


def is_parquet(file: Path) -> bool:
    """Whether ``file`` is read as Parquet, by its name."""
    return file.suffix.lower() in _PARQUET


def read_table(file: Path, columns: tuple[str, ...] | None, separator: str) -> Any:
    """The table in ``file`` as a pandas frame, its texts ``plain``, a CSV's cells all text.

    ``columns`` name those of a CSV without a header.  Its index counts the rows from 1.

    Raises Refused: the file cannot be read or has no rows.  Raises MissingExtra: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra("table needs pandas", remedy="pip install consilium[tables]") from error
    try:
        frame = _parquet(pd, file) if is_parquet(file) else _csv(pd, file, columns, separator)
    except ConsiliumError:
        raise
    except Exception as error:  # pandas raises many types on untrusted bytes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Refused(
            f"{shown_input(file)} cannot be read as a table: {reason}", remedy="give CSV (UTF-8) or Parquet"
        ) from error
    if frame.empty:
        raise Refused(f"{shown_input(file)} has no rows: no complete row is left", remedy="give a table with records")
    frame.columns = [plain_text(str(name)) for name in frame.columns]
    frame.index = range(1, len(frame) + 1)
    _check_names(list(frame.columns))
    check_no_header(frame)
    return frame


def gaps_of(frame: Any, missing: Collection[str], listed: Mapping[str, Sequence[str]], decimal: str = ".") -> Any:
    """The gaps of ``frame``, as a frame of bool: no value, a word of ``missing``, or one of ``GAPS``.

    ``decimal`` is the mark in the numbers of its texts.  A word among its column's declared categories is not a gap.

    Raises Refused: a cell holds an error of a spreadsheet that is neither declared nor among ``missing``.
    """
    for name in frame.columns:
        _check_errors(frame[name], {*missing, *listed.get(name, ())})
    words = {*missing, *GAPS}

    def gap(column: Any) -> Any:
        declared = set(listed.get(column.name, ()))
        return column.isna() | (_among(column, words - declared, decimal) & ~column.isin(declared))

    return frame.apply(gap)


def check_missing(frame: Any, missing: Collection[str], decimal: str = ".") -> None:
    """Refuse a word of ``missing`` that no cell of ``frame`` holds, whose numbers have the mark ``decimal``.

    Raises Refused: a word that no cell contains.
    """
    for word in missing:
        if not any(_among(frame[name], {word}, decimal).any() for name in frame.columns):
            texts = {text for name in frame.columns for text in frame[name].unique() if isinstance(text, str)}
            short = sorted(text for text in texts if 0 < len(text) <= len(word) + 2)[:_MOST_COMPARED]
            near = [text for text in short if text.casefold() == word.casefold()]
            near = near or difflib.get_close_matches(word, short, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else "take it out"
            raise Refused(f"it names {word!r}, which no cell contains", remedy=remedy, where="missing")


def _check_errors(column: Any, declared: Collection[str]) -> None:
    """Refuse an error of a spreadsheet, such as #REF!, in the place of a value."""
    texts = {text for text in column.unique() if isinstance(text, str)} if column.dtype.kind not in "iufb" else set()
    errors = sorted(text for text in texts - set(declared) if is_spreadsheet_error(text))
    if errors:
        rows = column.index[column.isin(errors)]
        error = column[rows[0]]
        raise Refused(
            f"column {column.name!r} holds {error!r} in row {rows[0]}, and such errors in {len(rows)} of its "
            f"{len(column)} rows: a spreadsheet shows them in the place of a value",
            remedy=f"mend the cells and export them again; or add {error!r} to missing if the values are not known",
            where="missing",
        )


def _among(column: Any, words: Collection[str], decimal: str) -> Any:
    """Which values are one of ``words``; numbers as numbers, so that -9 is -9.0."""
    numbers = [exact(word) for word in words if NUMBER.fullmatch(word)]
    if column.dtype.kind in "iuf":
        nothing = column.isna() if "nan" in {word.casefold() for word in words} else False
        alike = _in_type(numbers, column.dtype)
        if column.dtype == np.float16:  # which pandas cannot look up
            return np.isin(column.to_numpy(), alike) | nothing
        return column.isin(alike) | nothing
    texts = [text for text in column.unique() if isinstance(text, str)]
    return column.isin({*words, *texts_among(texts, words, decimal)})


def _in_type(numbers: Sequence[Decimal], dtype: Any) -> Any:
    """``numbers`` as a column of ``dtype`` holds them: 9.9 is another number in float32, and 9.5 no whole one."""
    numpy_type = np.dtype(getattr(dtype, "numpy_dtype", dtype))
    if numpy_type.kind == "f":
        with np.errstate(over="ignore"):
            return np.array([float(number) for number in numbers]).astype(numpy_type)
    low, high = np.iinfo(numpy_type).min, np.iinfo(numpy_type).max
    near = [number for number in numbers if low <= number <= high]
    return np.array([int(number) for number in near if number == number.to_integral_value()], dtype=numpy_type)


def _parquet(pd: Any, file: Path) -> Any:
    """With what a frame's named index holds as columns, and its texts ``plain``."""
    frame = pd.read_parquet(file)
    named = [name for name in frame.index.names if name is not None]
    frame = frame.reset_index(level=named) if named else frame
    return frame.apply(lambda column: column.map(_plain_text) if column.dtype.kind == "O" else column)


def _plain_text(value: object) -> object:
    return plain_text(value) if isinstance(value, str) else value


def _csv(pd: Any, file: Path, columns: tuple[str, ...] | None, separator: str) -> Any:
    names, rows = read_csv(file, columns, separator)
    return pd.DataFrame(rows, columns=names, dtype=object)


def _check_names(names: list[str]) -> None:
    """Refuse a column without a name, and two of one name: which of them is meant cannot be known."""
    for place, name in enumerate(names, 1):
        if not name:
            raise Refused(f"column {place} of the table has no name", remedy="name it (a row number: take it out)")
        if names.count(name) > 1:
            raise Refused(f"two columns of the table are called {name!r}", remedy="rename one", where=name)
