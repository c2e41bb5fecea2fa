"""A CSV file -> its names and rows of text, one line a row: what does not fit the first line is refused by its line.

Every line is parsed on its own, so that an unbalanced quote cannot merge rows.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from consilium.core.errors import Refused
from consilium.core.stored_input import shown_input
from consilium.data.columns.spelling import plain_text

__all__ = ["read_csv"]

_Opener = Callable[[Path, Literal["rb"]], io.BufferedIOBase]
_Lines = list[tuple[int, str]]
_SEPARATORS = {";": ";", ",": ",", "\t": "\\t", "|": "|", " ": " "}
_QUOTED_OR_BLANKS = re.compile(r'("(?:[^"]|"")*")|[ \t]+')
_EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


def read_csv(file: Path, columns: tuple[str, ...] | None, separator: str) -> tuple[list[str], list[list[str]]]:
    """Names and rows of ``file``, each cell ``plain``; ``columns`` are the names where it has no header.

    Refused, at its line: a NUL byte, a quote that is not closed on its line, more or fewer fields than the first line.

    Source: RFC 4180

    Raises Refused: the file is empty or malformed, or has another number of columns.
    """
    lines = _lines(file, " " if separator == "\t" else " \t")
    rows: list[list[str]] = []
    for number, line in lines:
        fields = _fields(line, separator)
        if not rows:
            _check_first(file, lines, fields, separator)
        header = columns is None and not rows
        at = f"line {number}" if header else f"row {len(rows) + (columns is not None)} (line {number})"
        _check_row(file, at, fields, rows)
        rows.append([plain_text(field) for field in fields])
    if not rows:
        raise Refused(f"{shown_input(file)} cannot be read as a table: it is empty", remedy="give a table with records")
    names = list(columns) if columns is not None else rows.pop(0)
    if rows and len(names) != len(rows[0]):
        raise Refused(
            f"{shown_input(file)} has {len(rows[0])} columns, and {len(names)} names stand for them",
            remedy=_other_separator(lines, separator) or "name every column once, in their order",
            where="columns",
        )
    return names, rows


def _lines(file: Path, blanks: str) -> _Lines:
    """The lines of ``file`` that are not all ``blanks``, each with its number and a line break at its end."""
    openers: dict[str, _Opener] = {
        ".gz": gzip.open,
        ".bz2": bz2.open,
        ".xz": lzma.open,
    }
    with openers.get(file.suffix.lower(), open)(file, "rb") as stored:
        text = stored.read().decode("utf-8-sig")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        reason = f"{shown_input(file)} cannot be read as a table: line {line} holds a NUL byte"
        raise Refused(reason, remedy="export it again as text (UTF-8)")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [(number, line + "\n") for number, line in enumerate(lines, 1) if line.strip(blanks)]


def _fields(line: str, separator: str) -> list[str]:
    """A line's cells; one whose quote is not closed ends in the line break."""
    if separator == " ":
        line = _QUOTED_OR_BLANKS.sub(lambda part: part[1] or " ", line.strip()) + "\n"
    return next(csv.reader([line], delimiter=separator, skipinitialspace=separator != " "))


def _check_first(file: Path, lines: _Lines, fields: list[str], separator: str) -> None:
    """Refuse a first line for Excel, and one that another mark parts."""
    line = lines[0][1]
    excel = _EXCEL.fullmatch(line)
    if excel:
        mark = _SEPARATORS.get(excel[1], excel[1])
        reason = f"{shown_input(file)} begins with {line.strip()!r}, a line for Excel and no row"
        raise Refused(reason, remedy=f'take that line out, and set separator = "{mark}"', where="separator")
    other = _other_separator(lines, separator) if len(fields) == 1 else ""
    if other:
        raise Refused(f"{shown_input(file)} has 1 column, parted by {separator!r}", remedy=other, where="separator")


def _check_row(file: Path, at: str, fields: list[str], rows: list[list[str]]) -> None:
    """Refuse a row with an open quote, and one of another length than the first of ``rows``, those above it."""
    first = rows[0] if rows else fields
    if fields[-1].endswith("\n"):
        name = f"column {first[len(fields) - 1]!r}" if rows and len(fields) <= len(first) else "a cell"
        reason = f"{at}: a quote opens in {name} and is not closed on that line"
        remedy = "mend the quote, or take the line break out of the cell"
    elif len(fields) != len(first):
        reason = f"its first line has {len(first)} field{'s' * (len(first) > 1)}, {at} has {len(fields)}"
        remedy = "is there a title above the header? take it out" if len(rows) == 1 else "mend that line"
    else:
        return
    raise Refused(f"{shown_input(file)} cannot be read as a table: {reason}", remedy=remedy)


def _other_separator(lines: _Lines, separator: str) -> str:
    """What to do where another mark than ``separator`` parts the first lines into more fields; else empty."""
    first = [line for _, line in lines[:2]]
    fields = {mark: {len(_fields(line, mark)) for line in first} for mark in {*_SEPARATORS, separator}}
    for mark, shown in _SEPARATORS.items():
        if len(fields[mark]) == 1 and max(fields[mark]) > max(fields[separator], default=1):
            return f'its first line looks parted by {mark!r}: set separator = "{shown}"'
    return ""
