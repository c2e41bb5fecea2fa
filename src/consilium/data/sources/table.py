"""Your own table, CSV or Parquet: one row a record, with columns for the label, the hospital and the patient.

Numbers are scaled to [0, 1] by their range, words become one column for each category.  Ranges and categories that you
declare are public.  Those you do not are read from the records: such a data set is marked, and no claim of differential
privacy can stand on it (LAWS 9).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from consilium.core.catalogue import nearest
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.records import Omission, Records
from consilium.data.checks.omissions import by_site, check_none_lost, first
from consilium.data.dataset import Dataset
from consilium.data.files.arrays import check_digits, identities, numbered
from consilium.data.files.meaning import TABULAR
from consilium.data.files.origin import given_file, stated
from consilium.data.source import Source

from ._cells import numbers, plain_words
from ._columns import Encoded, check_classes, encode_numbers, encode_words
from ._frame import check_missing, gaps_of, is_parquet, read_table
from ._knobs import check_roles
from ._row_numbers import check_index_name, check_person_name, row_number_note
from ._spelling import check_words, plain_text
from ._thousands import check_thousands
from ._types import check_types, text_columns

__all__ = ["Table"]


@dataclass(frozen=True)
class Table(Source):
    """Your own table in CSV (also gzipped) or Parquet: a label column, and if you like a site and a patient column.

    ``drop`` names columns that are no features.  ``ranges`` lists [column, low, high], or with a unit of measurement
    [column, low, high, unit], and ``categories`` [column, word, word, ...]: public constants.  ``missing`` are words
    that mean nothing is known; ``drop_missing`` leaves out rows with a gap.  ``columns`` names the columns of a CSV
    without a header, ``separator`` is what parts them (a blank: any number of blanks), ``decimal`` the mark in its
    numbers.  A row is one line of the file.  Refused, by row or column: text that only looks like numbers or dates, two
    spellings of one category, knobs that exclude each other.  Needs the extra ``tables``.

    Source: RFC 4180; Apache Parquet
    """

    path: str
    """Your file: .csv, .csv.gz or .parquet."""
    label: str
    """The column of what is to be predicted."""
    site: str | None = None
    """The column that names the hospital of a row; left out: rows are dealt to the sites by the partition."""
    patient: str | None = None
    """The column that names the patient; left out: every row is a patient of its own."""
    drop: tuple[str, ...] = ()
    """Columns that are no inputs."""
    ranges: tuple[tuple[str, float, float] | tuple[str, float, float, str], ...] = ()
    """Public constants by which numbers are scaled to [0, 1]; values outside are clipped and counted."""
    categories: tuple[tuple[str, ...], ...] = ()
    """Public lists of the words of a column, the label's too; each word becomes an input."""
    columns: tuple[str, ...] | None = None
    """Names of the columns of a CSV without a header."""
    missing: tuple[str, ...] = ()
    """Words, such as NA or ?, that mean that nothing is known."""
    drop_missing: bool = False
    """Whether rows with a gap are left out, and counted by site; else they are refused."""
    separator: str = ","
    """What parts the columns of a CSV; a blank stands for any number of blanks."""
    decimal: str = "."
    """The mark in the numbers of a CSV."""

    def __post_init__(self) -> None:
        check(len(self.separator) == 1 and self.separator not in '"\r\n', "separator", self.separator, "one character")
        typed = is_parquet(Path(self.path))
        other = typed or self.decimal != self.separator
        check(self.decimal in (".", ",") and other, "decimal", self.decimal, "a point or a comma, not the separator")
        for bounds in self.ranges:
            check(
                0 < bounds[2] - bounds[1] < float("inf") and all(bounds[3:]),
                "ranges",
                bounds,
                "[column, low, high] or [column, low, high, unit], low < high",
            )
        for listed in self.categories:
            different = len(set(listed[1:])) == len(listed) - 1 > 1
            check(different, "categories", listed, "[column, word, word, ...], words different")
            check_words(listed[1:], "categories", empty=plain_text(listed[0]) != plain_text(self.label))
        roles = {"label": self.label, "site": self.site, "patient": self.patient}
        named = ([bounds[0] for bounds in self.ranges], [listed[0] for listed in self.categories])
        check_roles(roles, self.drop, *named)
        for knob, idle in (("columns", self.columns is None), ("separator", self.separator == ",")):
            if typed and not idle:
                raise Refused("a Parquet file stores its columns' types", remedy="remove this knob", where=knob)

    def load(self) -> Dataset:
        """Inputs ``(n, features)`` in the order of the columns; no split."""
        return self._plain()._load(given_file(self.path))

    def _plain(self) -> Table:
        """With every name and word in the form of the cells, so that they can be compared."""
        return replace(
            self,
            label=plain_text(self.label),
            site=None if self.site is None else plain_text(self.site),
            patient=None if self.patient is None else plain_text(self.patient),
            drop=tuple(map(plain_text, self.drop)),
            ranges=tuple((plain_text(bounds[0]), *bounds[1:]) for bounds in self.ranges),
            categories=tuple(tuple(map(plain_text, listed)) for listed in self.categories),
            missing=tuple(map(plain_text, self.missing)),
        )

    def _load(self, file: Path) -> Dataset:
        listed = {name: tuple(words) for name, *words in self.categories}
        frame = read_table(file, self.columns, self.separator)
        check_missing(frame, self.missing)
        frame = self._checked(frame)
        frame, gaps = self._complete(frame, gaps_of(frame, self.missing, listed))
        words = np.array(plain_words(_texts(frame, self.label)), dtype=object)
        if self.label not in listed:
            check_classes(plain_words(_texts(frame, self.label)), self.label)
        y = encode_words(words, listed.get(self.label), self.label, frame.index)
        features = [name for name in frame.columns if name not in (self.label, self.site, self.patient)]
        encoded = {name: self._encoded(frame, name, listed) for name in features}
        if not encoded:
            raise Refused("no column is left as a feature", remedy="drop fewer columns", where="drop")
        private = [name for name, column in encoded.items() if column.private]
        sites = [] if self.site is None else _names(frame, self.site)
        keys, key_names = (None, ()) if self.site is None else numbered(sites)
        units, unit_names = (None, ()) if self.patient is None else numbered(_names(frame, self.patient))
        x = torch.from_numpy(np.concatenate([column.x for column in encoded.values()], axis=1))
        return Dataset(
            name=self.kind(),
            records=Records.of(x, torch.from_numpy(y.x.argmax(axis=1)), units),
            split=None,
            keys=keys,
            classes=listed.get(self.label) or tuple(sorted(set(words.tolist()))),
            provenance=stated([file]),
            bundled=False,
            notes=_notes(private, y.private),
            cautions=tuple(column.note for column in encoded.values() if column.note),
            fitted_on_private=bool(private),
            key_names=key_names,
            unit_names=unit_names,
            omitted=(*gaps, *_clipped(encoded, sites or [""] * len(frame))),
            inputs=self._inputs(encoded, y),
        )

    def _inputs(self, encoded: dict[str, Encoded], y: Encoded) -> Inputs:
        units = {bounds[0]: bounds[3] for bounds in self.ranges if len(bounds) == 4}
        columns = tuple(column.column(str(name), units.get(name, "")) for name, column in encoded.items())
        return Inputs(columns, TABULAR, self.patient is not None, not y.private)

    def _complete(self, frame: Any, gaps: Any) -> tuple[Any, tuple[Omission, ...]]:
        """``frame`` without gaps and what that leaves out: rows where the study allows it, but never a whole site."""
        for knob, name in (("site", self.site), ("patient", self.patient)):
            if name is not None and gaps[name].any():
                rows = frame.index[gaps[name]]
                reason = f"the {knob} is missing in {len(rows)} rows of column {name!r}, such as row {rows[0]}"
                raise Refused(reason, remedy="name it there, or take these rows out of the file", where=knob)
        counts = gaps.sum()
        named = [f"{name!r} ({count})" for name, count in counts[counts > 0].items()]
        if named and not self.drop_missing:
            raise Refused(
                f"values are missing in {', '.join(named)}",
                remedy="set drop-missing = true to leave those rows out, drop the columns, or fill them in",
                where="drop-missing",
            )
        whole = ~gaps.any(axis=1)
        complete_rows = frame[whole]
        if complete_rows.empty:
            raise Refused("no complete row is left", remedy="drop the columns with gaps", where="drop-missing")
        what, remedy = "rows with a gap", f"fill the gaps in {', '.join(named)}, or drop those columns"
        sites = [""] * len(frame) if self.site is None else _names(frame, self.site)
        labelled = ~gaps[self.label]
        check_none_lost(what, sites, [site for site, use in zip(sites, whole, strict=True) if use], remedy)
        check_none_lost(what, _texts(frame[labelled], self.label), _texts(complete_rows, self.label), remedy, "class")
        omissions = by_site(what, [site for site, use in zip(sites, whole, strict=True) if not use], first(named))
        return complete_rows, omissions

    def _checked(self, frame: Any) -> Any:
        """``frame``, every named column of which exists, without the dropped ones."""
        known = [str(name) for name in frame.columns]
        mentions = [("label", self.label), ("site", self.site), ("patient", self.patient)]
        mentions += [("drop", name) for name in self.drop] + [("ranges", bounds[0]) for bounds in self.ranges]
        mentions += [("categories", listed[0]) for listed in self.categories]
        for knob, name in mentions:
            if name is not None and name not in known:
                raise Refused(f"there is no column {name!r}", remedy=nearest(name, known), where=knob)
        frame = frame.drop(columns=list(self.drop))
        check_types(frame)
        if self.decimal != "." and not text_columns(frame):
            raise Refused("no column holds text, so there is no decimal mark", remedy="take it out", where="decimal")
        return frame

    def _encoded(self, frame: Any, name: str, listed: dict[str, tuple[str, ...]]) -> Encoded:
        declared = {bounds[0]: (bounds[1], bounds[2]) for bounds in self.ranges}.get(name)
        check_index_name(name)
        values = None if name in listed else self._numbers(frame, name, declared)
        if values is not None:
            encoded = encode_numbers(values, declared, name, frame[name].nunique())
            encoded = replace(encoded, note=row_number_note(values, name))
            check_person_name(name, patients=self.patient is not None)
            return encoded
        check_person_name(name, patients=self.patient is not None)
        if declared is not None:
            raise Refused(f"column {name!r} does not hold numbers", remedy="declare categories", where="ranges")
        return encode_words(
            np.array(plain_words(_texts(frame, name)), dtype=object), listed.get(name), name, frame.index
        )

    def _numbers(self, frame: Any, name: str, declared: tuple[float, float] | None) -> npt.NDArray[Any] | None:
        from pandas.api.types import is_numeric_dtype

        if is_numeric_dtype(frame[name]):
            return np.asarray(frame[name].to_numpy(dtype=None if frame[name].dtype.kind == "f" else np.float64))
        texts = _texts(frame, name)
        values = numbers(texts, frame.index, name, declared=declared is not None, decimal=self.decimal)
        if values is not None:
            check_thousands(texts, frame.index, name, declared, self.decimal)
        return values


def _texts(frame: Any, name: str) -> list[str]:
    """A column as words ``(n,)``: numbers of a typed file as short as their type allows, whole ones without a point."""
    values = frame[name].to_numpy() if frame[name].dtype.kind == "f" else frame[name].to_list()
    return [str(int(v)) if isinstance(v, (float, np.floating)) and v.is_integer() else str(v) for v in values]


def _names(frame: Any, name: str) -> list[str]:
    if frame[name].dtype.kind == "f":
        check_digits(frame[name].to_numpy(), name)
    return identities(frame[name].to_list(), name, [f"row {row}" for row in frame.index])


def _clipped(encoded: Mapping[str, Encoded], sites: Sequence[str]) -> Iterator[Omission]:
    for name, column in encoded.items():
        if column.clipped is not None and column.clipped.any():
            outside = [sites[row] for row in np.flatnonzero(column.clipped).tolist()]
            yield from by_site(f"values of {name!r} clipped to its declared range", outside)


def _notes(private: list[str], classes_private: bool) -> tuple[str, ...]:
    notes = ["numbers outside their declared range are clipped, and counted"]
    if private:
        notes.append(
            "ranges or categories of "
            + ", ".join(private)
            + " were read from the records: they are not public and carry no privacy charge"
        )
    if classes_private:
        notes.append("the list of classes was read from the labels; declare it in categories")
    return tuple(notes)
