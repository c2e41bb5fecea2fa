"""A table's columns: what each is called, whether it holds numbers or words, and which are label, hospital and patient.

The roles are guessed by name.  Of the cells only this is used: number or word, gap or none, how many different words
(many look like an identifier), and how many hospitals; none is written down.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import MissingExtra, Refused
from ..data.checks.gap_words import GAPS
from .study_template import DataTable, quoted

__all__ = ["Column", "table_data"]

_LABELS = (
    "label",
    "target",
    "outcome",
    "diagnosis",
    "class",
    "y",
    "num",
    "status",
    "disease",
    "death",
    "died",
    "income",
)
_SITES = ("hospital", "site", "clinic", "center", "centre", "institution", "facility", "ward", "country", "location")
_PATIENTS = ("patient", "patient_id", "patientid", "subject", "subject_id", "person", "person_id", "mrn", "pid")
_IDENTIFIER = re.compile(
    r"(^|[ _.-])(id|ids|index|uid|uuid|mrn|name|surname|row|record|case)([ _.-]?(id|no|nr|number))?$|^$|^unnamed"
)
_MOST_ROWS, _MOST_WORDS = 100_000, 100
_SEPARATORS = (",", ";", "\t", "|")


@dataclass
class Column:
    """What was seen of a column, without its values: counts only."""

    name: str
    numbers: int = 0
    words: int = 0
    gaps: int = 0
    different: int = 0
    repeated: int = 0

    @property
    def is_number(self) -> bool:
        """Whether every cell that is no gap is a number."""
        return self.numbers > 0 and not self.words


def table_data(file: Path) -> DataTable:
    """What a study's ``[data]`` says of this table.

    Raises Refused: it has fewer than two columns or no rows.
    """
    separator, columns = (",", _parquet(file)) if file.suffix.lower() in (".parquet", ".pq") else _csv(file)
    label = _role(columns, _LABELS) or columns[-1]
    others = [column for column in columns if column is not label]
    site = _role(others, _SITES)
    patient = _role([column for column in others if column is not site], _PATIENTS)
    rest = [column for column in others if column not in (site, patient)]
    dropped = [column for column in rest if _is_identifier(column)]
    inputs = [column for column in rest if column not in dropped]
    return DataTable(
        kind="table",
        lines=(
            f"label = {quoted(label.name)} # what is predicted{_alternatives(label, others)}",
            *_role_lines("site", site, rest, "the hospital of a row"),
            *_role_lines("patient", patient, rest, "whose row it is; without it each row is a patient of its own"),
            *(
                [f"drop = [{', '.join(quoted(c.name) for c in dropped)}] # they look like identifiers"]
                if dropped
                else []
            ),
            *([f"separator = {quoted(separator)}"] if separator != "," else []),
            *(["drop-missing = true # rows with a gap are left out, and counted"] if _gaps(columns) else []),
        ),
        ranges=tuple(column.name for column in inputs if column.is_number),
        categories=(*(column.name for column in inputs if not column.is_number), label.name),
        sites=min(max(site.different, 2), 20) if site else 3,
        partition="by-key" if site else "iid",
        patients=False if patient is None else True if patient.repeated else None,
    )


def _csv(file: Path) -> tuple[str, list[Column]]:
    with (
        gzip.open(file, "rt", encoding="utf-8-sig", newline="")
        if file.suffix == ".gz"
        else file.open(encoding="utf-8-sig", newline="") as lines
    ):
        try:
            first = next(lines)
            separator = max(_SEPARATORS, key=first.count)
            rows = csv.reader(itertools.chain([first], lines), delimiter=separator)
            names = [name.strip() for name in next(rows)]
            return separator, _counted(file, names, itertools.islice(rows, _MOST_ROWS))
        except (UnicodeDecodeError, csv.Error, StopIteration, gzip.BadGzipFile, EOFError) as error:
            raise Refused(
                f"{file} cannot be read as CSV: {error or 'it is empty'}", remedy="give CSV in UTF-8"
            ) from None


def _counted(file: Path, names: Sequence[str], rows: Iterator[list[str]]) -> list[Column]:
    if len(names) < 2:
        raise Refused(f"{file} has one column", remedy="give a table with a label and at least one input")
    columns, words = [Column(name) for name in names], [set[str]() for _ in names]
    for row in filter(None, rows):
        for column, known, cell in zip(columns, words, row, strict=False):
            text = cell.strip()
            if text in GAPS or text == "?":
                column.gaps += 1
            else:
                column.numbers += (number := _is_number(text))
                column.words += not number
                column.repeated += text in known
                if len(known) <= _MOST_WORDS:
                    known.add(text)
    if not any(words):
        raise Refused(f"{file} has no rows", remedy="give a table with records")
    for column, known in zip(columns, words, strict=True):
        column.different = len(known)
    return columns


def _parquet(file: Path) -> list[Column]:
    """By the types of the file alone."""
    try:
        from pyarrow.parquet import read_schema
    except ImportError as error:
        raise MissingExtra("Parquet needs pyarrow", remedy="pip install consilium[tables]") from error
    try:
        schema = read_schema(file)
    except Exception as error:  # pyarrow raises several types on bytes that are no Parquet
        raise Refused(f"{file} cannot be read as Parquet: {str(error).partition(chr(10))[0]}") from None
    if len(schema.names) < 2:
        raise Refused(f"{file} has one column", remedy="give a table with a label and at least one input")
    number = [str(kind).startswith(("int", "uint", "float", "double", "half")) for kind in schema.types]
    return [
        Column(name, int(is_number), int(not is_number)) for name, is_number in zip(schema.names, number, strict=True)
    ]


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _role(columns: Sequence[Column], names: Sequence[str]) -> Column | None:
    """The column whose name stands first in ``names``, however it is spelt."""
    known = {re.sub(r"[ .-]+", "_", column.name.casefold()): column for column in reversed(columns)}
    return next((known[name] for name in names if name in known), None)


def _is_identifier(column: Column) -> bool:
    by_name = _IDENTIFIER.search(column.name.casefold()) is not None
    return by_name or (not column.is_number and column.different > _MOST_WORDS)


def _role_lines(role: str, column: Column | None, others: Sequence[Column], meaning: str) -> list[str]:
    if column is not None:
        return [f"{role} = {quoted(column.name)} # {meaning}{_alternatives(column, others)}"]
    return [f"# {role} = ... # {meaning}, if a column says so"]


def _alternatives(column: Column, others: Sequence[Column]) -> str:
    names = [quoted(other.name) for other in others if other is not column][:6]
    return f"; guessed by its name, or {', '.join(names)}?" if names else ""


def _gaps(columns: Sequence[Column]) -> bool:
    return any(column.gaps for column in columns)
