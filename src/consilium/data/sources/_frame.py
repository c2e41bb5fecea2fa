"""A table file -> a frame without gaps, read by pandas (an optional extra).

A CSV is read as text, every cell of it, so that a name is never taken for a number; Parquet has types of its own.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from consilium.core.errors import ConsiliumError, MissingExtra, Refused

from ._cells import GAPS

__all__ = ["gaps_of", "read_table"]

_PARQUET = (".parquet", ".pq")
_SEPARATORS = {";": ";", "\t": "\\t", "|": "|", " ": " "}


def read_table(file: Path, columns: tuple[str, ...] | None, separator: str) -> Any:
    """The table in ``file`` as a pandas frame, a CSV's cells as text without blanks around it.

    ``columns`` name those of a CSV without a header.  Its index counts the rows from 1.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra("table needs pandas", remedy="pip install consilium[tables]") from error
    try:
        frame = _parquet(pd, file) if file.suffix.lower() in _PARQUET else _csv(pd, file, columns, separator)
    except ConsiliumError:
        raise
    except Exception as error:  # whatever pandas makes of bytes that nobody vouches for
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = _other_separator(file, separator) or "give CSV (UTF-8) or Parquet"
        raise Refused(f"{file} cannot be read as a table: {reason}", remedy=remedy) from error
    if frame.empty:
        raise Refused(f"{file} has no rows: no complete row is left", remedy="give a table with records")
    frame.columns = [str(name) for name in frame.columns]
    frame.index = range(1, len(frame) + 1)
    _check_names(list(frame.columns))
    return frame


def gaps_of(frame: Any, missing: Collection[str], listed: Mapping[str, Sequence[str]]) -> Any:
    """Where ``frame`` says nothing, as a frame of bool: no value, a word of ``missing``, or in a CSV one of ``GAPS``.

    A word that stands among its column's declared categories is no gap.
    """
    words = {*missing, *(GAPS if frame.attrs.get("text") else {""})}
    return frame.apply(lambda column: column.isna() | _among(column, words - set(listed.get(column.name, ()))))


def _among(column: Any, words: Collection[str]) -> Any:
    """Which values are one of ``words``; numbers as numbers, so that -9 is -9.0."""
    numbers = [float(word) for word in words if _is_number(word)]
    if column.dtype.kind in "iuf":
        return column.isin(numbers)
    return column.isin(words)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _parquet(pd: Any, file: Path) -> Any:
    """With what a frame's named index holds as columns, and text without blanks around it."""
    frame = pd.read_parquet(file)
    named = [name for name in frame.index.names if name is not None]
    frame = frame.reset_index(level=named) if named else frame
    return frame.apply(lambda column: column.map(lambda value: value.strip() if isinstance(value, str) else value))


def _csv(pd: Any, file: Path, columns: tuple[str, ...] | None, separator: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame = pd.read_csv(
            file,
            sep=r"\s+" if separator == " " else separator,
            header=None,
            index_col=False,
            dtype=str,
            keep_default_na=False,
            na_values=[],
            skipinitialspace=True,
            encoding="utf-8-sig",
        )
    frame = frame.fillna("").apply(lambda column: column.str.strip())
    names = list(columns) if columns is not None else frame.iloc[0].tolist()
    if len(names) != frame.shape[1] or (frame.shape[1] == 1 and _other_separator(file, separator)):
        raise Refused(
            f"{file} has {frame.shape[1]} columns, and {len(names)} names stand for them",
            remedy=_other_separator(file, separator) or "name every column once, in their order",
            where="separator" if columns is None else "columns",
        )
    frame = frame if columns is not None else frame.iloc[1:]
    frame.columns = names
    frame.attrs["text"] = True
    return frame


def _check_names(names: list[str]) -> None:
    """Refuse a column without a name, and two of one name: which of them is meant cannot be known."""
    for place, name in enumerate(names, 1):
        if not name:
            raise Refused(f"column {place} of the table has no name", remedy="name it (a row number: take it out)")
        if names.count(name) > 1:
            raise Refused(f"two columns of the table are called {name!r}", remedy="rename one", where=name)


def _other_separator(file: Path, separator: str) -> str:
    """What to do where the first line seems to be parted by something else than ``separator``; else empty."""
    if file.suffix.lower() in _PARQUET:
        return ""
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as lines:
            line = lines.readline(1 << 16).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    counts = {mark: line.count(mark) for mark in _SEPARATORS if mark != separator}
    best = max(counts, key=lambda mark: counts[mark])
    if not counts[best] or line.count(separator) >= counts[best]:
        return ""
    return f'its first line looks parted by {best!r}: set separator = "{_SEPARATORS[best]}"'
