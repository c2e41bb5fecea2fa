"""Your own table, CSV or Parquet: one row a record, with columns for the label, the hospital and the patient.

Numbers are scaled to [0, 1] by their range, words become one column for each category.  Ranges and categories that you
declare are public.  Those you do not are read from the records: such a data set says so, and no claim of differential
privacy can stand on it (LAWS 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from consilium.core.catalogue import nearest
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.records import Records
from consilium.data.arrays import numbered
from consilium.data.dataset import Dataset
from consilium.data.meaning import TABULAR
from consilium.data.origin import given_file, stated
from consilium.data.source import Source

from ._columns import Encoded, encode_numbers, encode_words
from ._frame import complete, read_table

__all__ = ["Table"]


@dataclass(frozen=True)
class Table(Source):
    """Your own table in CSV (also gzipped) or Parquet: a label column, and if you like a site and a patient column.

    ``drop`` names columns that are no features.  ``ranges`` lists [column, low, high], or with a unit of measurement
    [column, low, high, unit], and ``categories`` [column, word, word, ...]: public constants.  ``missing`` are words
    that mean nothing is known; ``drop_missing`` leaves out rows with a gap.  ``columns`` names the columns of a CSV
    without a header.  Needs the extra ``tables``.

    Source: RFC 4180; Apache Parquet
    """

    path: str
    label: str
    site: str | None = None
    patient: str | None = None
    drop: tuple[str, ...] = ()
    ranges: tuple[tuple[str, float, float] | tuple[str, float, float, str], ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()
    drop_missing: bool = False

    def __post_init__(self) -> None:
        for given in self.ranges:
            check(
                -float("inf") < given[1] < given[2] < float("inf") and all(given[3:]),
                "ranges",
                given,
                "[column, low, high] or [column, low, high, unit], low < high",
            )
        for listed in self.categories:
            check(
                len(set(listed)) == len(listed) > 2, "categories", listed, "[column, word, word, ...], words different"
            )

    def load(self) -> Dataset:
        """Inputs ``(n, features)`` in the order of the columns; no split."""
        file = given_file(self.path)
        frame = complete(self._checked(read_table(file, self.columns, self.missing)), self.drop_missing)
        n = len(frame)
        listed = {name: tuple(words) for name, *words in self.categories}
        words = _words(frame, self.label)
        y = encode_words(words, listed.get(self.label), self.label)
        features = [name for name in frame.columns if name not in (self.label, self.site, self.patient, *self.drop)]
        encoded = {name: self._encoded(frame, name, listed) for name in features}
        if not encoded:
            raise Refused("no column is left as a feature", remedy="drop fewer columns", where="drop")
        private = [name for name, column in encoded.items() if column.private]
        keys, key_names = (None, ()) if self.site is None else numbered(_words(frame, self.site), n, self.site)
        units = None if self.patient is None else numbered(_words(frame, self.patient), n, self.patient)[0]
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
            fitted_on_private=bool(private),
            key_names=key_names,
            inputs=self._inputs(encoded, y),
        )

    def _inputs(self, encoded: dict[str, Encoded], y: Encoded) -> Inputs:
        units = {given[0]: given[3] for given in self.ranges if len(given) == 4}
        columns = tuple(column.column(str(name), units.get(name, "")) for name, column in encoded.items())
        return Inputs(columns, TABULAR, self.patient is not None, not y.private)

    def _checked(self, frame: Any) -> Any:
        """``frame``, every named column of which exists, without the dropped ones."""
        known = [str(name) for name in frame.columns]
        asked = [("label", self.label), ("site", self.site), ("patient", self.patient)]
        asked += [("drop", name) for name in self.drop] + [("ranges", given[0]) for given in self.ranges]
        asked += [("categories", listed[0]) for listed in self.categories]
        for knob, name in asked:
            if name is not None and name not in known:
                raise Refused(f"there is no column {name!r}", remedy=nearest(name, known), where=knob)
        return frame.drop(columns=[name for name in self.drop if name not in (self.label, self.site, self.patient)])

    def _encoded(self, frame: Any, name: str, listed: dict[str, tuple[str, ...]]) -> Encoded:
        from pandas.api.types import is_numeric_dtype

        declared = {given[0]: (given[1], given[2]) for given in self.ranges}
        if name in listed or not is_numeric_dtype(frame[name]):
            if name in declared:
                raise Refused(f"column {name!r} does not hold numbers", remedy="declare categories", where="ranges")
            return encode_words(_words(frame, name), listed.get(name), name)
        return encode_numbers(frame[name].to_numpy(), declared.get(name), name)


def _words(frame: Any, name: str) -> npt.NDArray[Any]:
    """A column as words ``(n,)``; whole numbers are written without a point."""
    values = frame[name].to_list()
    words = [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values]
    return np.array(words, dtype=object)


def _notes(private: list[str], classes_private: bool) -> tuple[str, ...]:
    notes = ["numbers outside their declared range are clipped"]
    if private:
        notes.append(
            "ranges or categories of "
            + ", ".join(private)
            + " were read from the records: they are not public and carry no privacy charge"
        )
    if classes_private:
        notes.append("the list of classes was read from the labels; declare it in categories")
    return tuple(notes)
