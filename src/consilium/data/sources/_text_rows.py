"""A CSV file with texts -> its names and rows: cells in quotes may hold line breaks, as notes do.

What is not UTF-8, not one table, or longer than it may be is refused by its line or row; nothing is repaired.

Source: RFC 4180
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path

from consilium.core.errors import Refused
from consilium.data.columns.spelling import plain_text

__all__ = ["decoded", "read_rows"]


def read_rows(file: Path, separator: str, max_bytes: int) -> tuple[list[str], list[list[str]]]:
    """The names in the first row of ``file`` (also gzipped), and the rows below it.

    Raises Refused: the file cannot be read, is empty, has rows of several lengths, or more than ``max_bytes``.
    """
    rows = _rows(file, decoded(_bytes(file, max_bytes), file), separator)
    names = [plain_text(name) for name in next(rows, [])]
    if not names:
        raise Refused(f"{file} is empty", remedy="give a CSV with a row of names and records below it", where="path")
    body: list[list[str]] = []
    for row in rows:
        if len(row) != len(names):
            reason = f"row {len(body) + 1} of {file} has {len(row)} fields, the row of names {len(names)}"
            remedy = "put texts that hold the separator into quotes, or set separator"
            raise Refused(reason, remedy=remedy, where="path")
        body.append(row)
    if not body:
        raise Refused(f"{file} has no rows below the names", remedy="give a table with records", where="path")
    return names, body


def decoded(data: bytes, file: Path) -> str:
    """``data`` of ``file`` as text.

    Raises Refused: bytes that are not UTF-8, or a NUL, by line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"line {line} of {file} is not UTF-8 (byte 0x{data[error.start]:02x})"
        raise Refused(reason, remedy="save the file as UTF-8", where="path") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Refused(f"line {line} of {file} holds a NUL byte", remedy="export it again as text", where="path")
    return text


def _bytes(file: Path, max_bytes: int) -> bytes:
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as stored:
            data: bytes = stored.read(max_bytes + 1)
    except (OSError, EOFError) as error:  # gzip raises both on broken files
        reason = getattr(error, "strerror", None) or str(error)
        raise Refused(f"{file} cannot be read: {reason}", remedy="check the file", where="path") from error
    if len(data) > max_bytes:
        reason = f"{file} holds more than max-bytes = {max_bytes} bytes"
        raise Refused(reason, remedy="raise max-bytes if this machine can hold it", where="max-bytes")
    return data


def _rows(file: Path, text: str, separator: str) -> Iterator[list[str]]:
    """Every row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        yield from (row for row in reader if row)
    except csv.Error as error:
        reason = f"line {reader.line_num} of {file} ends no row of a CSV: {error}"
        remedy = 'mend the quotes there or above: a quote within a text is written ""'
        raise Refused(reason, remedy=remedy, where="path") from error
