"""Your own table, CSV or Parquet: one row a record, with columns for what is asked, the hospital and the patient.

Numbers are scaled to [0, 1] by their range, words become one column for each category.  Ranges and categories that you
declare are public.  Those you do not are read from the records: such a data set is marked, and no claim of differential
privacy can stand on it (LAWS 9).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.attribute import Attribute
from consilium.core.catalogue import nearest
from consilium.core.count_words import count_words
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.records import Omission, Records
from consilium.core.stored_input import shown_input
from consilium.core.task import Task
from consilium.data.columns.answer_columns import AnswerColumns, check_rows, task_answers
from consilium.data.columns.attribute_columns import attribute_of
from consilium.data.columns.attribute_copies import attribute_copies
from consilium.data.columns.cells import plain_words
from consilium.data.columns.classes import check_class_groups, grouped, words_of_classes
from consilium.data.columns.encoding import Encoded, check_classes, check_no_marks, encode_numbers, encode_words
from consilium.data.columns.roles import check_attributes, check_roles
from consilium.data.columns.row_numbers import check_index_name, check_person_name, row_number_note
from consilium.data.columns.spelling import check_words, plain_text
from consilium.data.columns.types import check_types, text_columns
from consilium.data.dataset import Dataset
from consilium.data.files.arrays import numbered
from consilium.data.files.meaning import TABULAR
from consilium.data.files.origin import given_file, stated
from consilium.data.source import Source
from consilium.data.tables.column_words import column_words, group_names
from consilium.data.tables.complete_rows import complete_rows, gaps_by_site
from consilium.data.tables.frame import is_parquet, read_table
from consilium.data.tables.gaps import (
    Constant,
    check_fill,
    constants_text,
    fill_remedy,
    filled,
    gap_frame,
    idle_constants,
    marked,
    plain_missing,
    with_constant,
    word_of,
)
from consilium.data.tables.header import check_first_record, check_header
from consilium.data.tables.numeric_columns import numeric_values
from consilium.data.tables.preparation_notes import clipped_values, preparation_notes

__all__ = ["Table"]


@dataclass(frozen=True)
class Table(Source):
    """Your own table in CSV (also gzipped) or Parquet: a label column, and if you like a site and a patient column.

    The task says what is read: ``label`` (a class each), ``target`` (findings of 0 and 1, or numbers; one column or
    several), or ``time`` and ``event`` (survival).  ``classes`` lists [class, word, word, ...]: words of the label that
    are one class.  ``attributes`` names columns that are kept beside the records and are no features, unless
    ``also_inputs`` names them too.

    ``drop`` names columns that are no features.  ``ranges`` lists [column, low, high], or with a unit of measurement
    [column, low, high, unit], and ``categories`` [column, word, word, ...]: public constants.  ``missing`` are words
    that mean nothing is known, in every column or, as [column, word, ...], in one; ``fill`` has a constant for the
    gaps of a column, which ``mark_missing`` may mark by a feature; ``drop_missing`` leaves out rows with another gap.
    ``columns`` names the columns of a CSV
    without a header, ``separator`` is what parts them (a blank: any number of blanks), ``decimal`` the mark in its
    numbers.  A row is one line of the file.  Refused, by row or column: text that only looks like numbers or dates, two
    spellings of one category, knobs that exclude each other.  Needs the extra ``tables``.

    Source: RFC 4180; Apache Parquet
    """

    added_later: ClassVar[tuple[str, ...]] = (
        *("target", "time", "event", "classes", "attributes", "also_inputs", "fill", "mark_missing"),
    )

    path: str
    """Your file: .csv, .csv.gz or .parquet."""
    label: str | None = None
    """The column of the class that is to be predicted."""
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
    missing: tuple[str | tuple[str, ...], ...] = ()
    """Words, such as NA or ?, that mean that nothing is known: everywhere, or [column, word, ...] in one column."""
    drop_missing: bool = False
    """Whether rows with a gap are left out, and counted by site; else they are refused."""
    separator: str = ","
    """What parts the columns of a CSV; a blank stands for any number of blanks."""
    decimal: str = "."
    """The mark in the numbers of a CSV."""
    target: str | tuple[str, ...] | None = None
    """The column or columns of the findings or quantities that the task asks."""
    time: str | None = None
    """The column of the time of a record, for the task survival."""
    event: str | None = None
    """The column that says whether the event was seen (1) or the record is censored (0)."""
    classes: tuple[tuple[str, ...], ...] = ()
    """Words of the label that are one class: [name, word, word, ...] each."""
    attributes: tuple[str, ...] = ()
    """Columns that are known of each record and are no inputs, such as sex or scanner."""
    also_inputs: tuple[str, ...] = ()
    """Those of ``attributes`` that are inputs as well."""
    fill: dict[str, Constant] | None = None
    """Public constants that stand for missing values, by column: a number, or a word of its own."""
    mark_missing: tuple[str, ...] = ()
    """Columns of ``fill`` that have one more input: whether the value was missing."""

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
            empty = plain_text(listed[0]) != plain_text(self.label or "")
            check_words(listed[1:], "categories", empty=empty)
        for one in self.missing:
            check(isinstance(one, str) or len(one) > 1, "missing", one, "a word, or [column, word, ...]")
        self._check_roles()
        for knob, idle in (("columns", self.columns is None), ("separator", self.separator == ",")):
            if typed and not idle:
                raise Refused("a Parquet file stores its columns' types", remedy="remove this knob", where=knob)

    def _check_roles(self) -> None:
        answers = AnswerColumns(self.label, self.target, self.time, self.event)
        check(self.target is None or bool(answers.targets), "target", self.target, "a column, or a list of columns")
        roles = {**answers.roles, "site": self.site, "patient": self.patient}
        ranges, listed = [bounds[0] for bounds in self.ranges], [listed[0] for listed in self.categories]
        check_roles(roles, self.drop, ranges, listed)
        check_attributes(roles, self.attributes, self.also_inputs, {"drop": self.drop, "ranges": ranges})
        reserved = {**dict.fromkeys(self.drop, "is dropped"), **{n: f"is the {k}" for k, n in roles.items() if n}}
        for name in self.fill or ():
            if name in reserved:
                reason = f"column {name!r} {reserved[name]}, and is not filled"
                raise Refused(reason, remedy="take it out", where="fill")
        check_fill(self.fill or {}, self.mark_missing, {bounds[0]: (bounds[1], bounds[2]) for bounds in self.ranges})
        check_class_groups(self.classes, self.label, listed)

    def load(self) -> Dataset:
        """Inputs ``(n, features)`` in the order of the columns; no split."""
        return self._plain()._load(given_file(self.path), None)

    def load_for(self, task: Task) -> Dataset:
        """The same with labels as ``task`` has them: findings ``(n, k)``, quantities ``(n, k)``, time and event."""
        return self._plain()._load(given_file(self.path), None if task.exclusive else task)

    def _plain(self) -> Table:
        """With every name and word in the form of the cells, so that they can be compared."""

        def plain(name: str | None) -> str | None:
            return None if name is None else plain_text(name)

        return replace(
            self,
            label=plain(self.label),
            target=plain(self.target) if isinstance(self.target, str) else self.target and _plain_all(self.target),
            time=plain(self.time),
            event=plain(self.event),
            site=plain(self.site),
            patient=plain(self.patient),
            drop=_plain_all(self.drop),
            ranges=tuple((plain_text(bounds[0]), *bounds[1:]) for bounds in self.ranges),
            categories=tuple(map(_plain_all, self.categories)),
            missing=plain_missing(self.missing),
            classes=tuple(map(_plain_all, self.classes)),
            attributes=_plain_all(self.attributes),
            also_inputs=_plain_all(self.also_inputs),
            fill=None if self.fill is None else {plain_text(name): value for name, value in self.fill.items()},
            mark_missing=_plain_all(self.mark_missing),
        )

    @property
    def _answers(self) -> AnswerColumns:
        return AnswerColumns(self.label, self.target, self.time, self.event)

    @property
    def _listed(self) -> dict[str, tuple[str, ...]]:
        """The declared categories of each column."""
        return {name: tuple(words) for name, *words in self.categories}

    def _load(self, file: Path, task: Task | None) -> Dataset:
        asked_columns = self._answers.of(task, self.kind())
        frame = read_table(file, self.columns, self.separator)
        if len(asked_columns) == 1:
            check_header(frame, asked_columns[0])
        check_first_record(frame, self._listed, named=self.columns is not None)
        frame = self._checked(frame)
        declared_words = {**self._listed, **words_of_classes(self.classes, self.label)}
        gaps = gap_frame(frame, self.missing, declared_words, self.decimal)
        frame, gaps, omissions = self._complete(frame, gaps, asked_columns)
        y, classes, declared = self._labels(frame, task, asked_columns, file)
        reserved = {*asked_columns, self.site, self.patient, *(set(self.attributes) - set(self.also_inputs))}
        encoded = dict(self._features(frame, gaps, [name for name in frame.columns if name not in reserved]))
        if not encoded:
            raise Refused("no column is left as a feature", remedy="drop fewer columns", where="drop")
        private = [name for name, column in encoded.items() if column.private]
        sites = [] if self.site is None else group_names(frame, self.site)
        keys, key_names = (None, ()) if self.site is None else numbered(sites)
        units, unit_names = (None, ()) if self.patient is None else numbered(group_names(frame, self.patient))
        x = torch.from_numpy(np.concatenate([column.x for column in encoded.values()], axis=1))
        attributes = tuple(self._attribute(frame, gaps, name) for name in self.attributes)
        return Dataset(
            name=self.kind(),
            records=Records.of(x, y, units, attributes=attributes),
            split=None,
            keys=keys,
            classes=classes,
            provenance=stated([file]),
            bundled=False,
            notes=preparation_notes(private, not declared),
            cautions=(
                *(column.note for column in encoded.values() if column.note),
                *idle_constants(self.fill or {}, gaps),
                *attribute_copies(encoded, attributes, self.also_inputs),
            ),
            fitted_on_private=bool(private),
            key_names=key_names,
            unit_names=unit_names,
            omitted=(*omissions, *clipped_values(encoded, sites or [""] * len(frame))),
            inputs=self._inputs(encoded, declared),
        )

    def _labels(
        self, frame: Any, task: Task | None, names: Sequence[str], file: Path
    ) -> tuple[Tensor, tuple[str, ...], bool]:
        """The labels, their names, and whether these are declared."""
        if task is not None:
            texts = {name: column_words(frame, name) for name in names}
            answers = task_answers(task, texts, frame.index, self._listed, self.decimal, shown_input(file))
            check_rows(task, answers, names, frame.index)
            return answers, tuple(names), True
        name, listed = names[0], self._listed
        words = plain_words(column_words(frame, name))
        if self.classes:
            return grouped(words, self.classes, name, frame.index)
        if name not in listed:
            check_classes(words, name)
        y = encode_words(np.array(words, dtype=object), listed.get(name), name, frame.index)
        classes = listed.get(name) or tuple(sorted(set(words)))
        return torch.from_numpy(y.x.argmax(axis=1)), classes, not y.private

    def _inputs(self, encoded: Mapping[str, Encoded], classes_declared: bool) -> Inputs:
        units = {bounds[0]: bounds[3] for bounds in self.ranges if len(bounds) == 4}
        columns = tuple(column.column(str(name), units.get(name, "")) for name, column in encoded.items())
        constants = {name: value for name, value in (self.fill or {}).items() if name in encoded}
        gaps = (("missing values", constants_text(constants)),) if constants else ()
        return Inputs(columns, (*TABULAR, *gaps), self.patient is not None, classes_declared)

    def _attribute(self, frame: Any, gaps: Any, name: str) -> Attribute:
        words, gap = plain_words(column_words(frame, name)), gaps[name].to_numpy()
        constant = (self.fill or {}).get(name)
        listed = self._listed.get(name)
        if constant is not None:
            words = [word_of(constant) if unknown else word for word, unknown in zip(words, gap, strict=True)]
            gap = np.zeros_like(gap)
            listed = None if listed is None else with_constant(listed, constant, name)
        return attribute_of(name, words, gap, frame.index, listed)

    def _complete(self, frame: Any, gaps: Any, answers: Sequence[str]) -> tuple[Any, Any, tuple[Omission, ...]]:
        """The rows that are used, their gaps that are filled, and what that leaves out."""
        for knob, name in (("site", self.site), ("patient", self.patient)):
            if name is not None and gaps[name].any():
                rows = frame.index[gaps[name]]
                missing = count_words(len(rows), "row")
                reason = f"the {knob} is missing in {missing} of column {name!r}, such as row {rows[0]}"
                raise Refused(reason, remedy="name it there, or take these rows out of the file", where=knob)
        fill, unread = self.fill or {}, set(self.attributes) - set(self.also_inputs)

        def remedy(columns: Sequence[str]) -> str:
            features = [name for name in columns if name not in answers]
            return fill_remedy(features, [n for n in features if self._holds_numbers(frame[~gaps[n]], n)])

        whole, omissions = complete_rows(
            gaps,
            [name for name in frame.columns if name not in fill and name not in unread],
            self._groups(frame, gaps),
            drop_missing=self.drop_missing,
            remedy=remedy,
        )
        frame, gaps = frame[whole], gaps[whole]
        sites = [""] * len(frame) if self.site is None else group_names(frame, self.site)
        filled_gaps = gaps_by_site("values missing, and filled by constants", gaps[list(fill)], sites)
        unknown = gaps_by_site("values of attributes that are not known", gaps[sorted(unread - set(fill))], sites)
        return frame, gaps, (*omissions, *filled_gaps, *unknown)

    def _groups(self, frame: Any, gaps: Any) -> dict[str, list[str | None]]:
        """The site and the class of each row, where there are any: none of them may be lost whole."""
        groups: dict[str, list[str | None]] = {} if self.site is None else {"site": [*group_names(frame, self.site)]}
        if self.label is not None:
            class_of = {word: name for name, *words in self.classes for word in words}
            texts = zip(column_words(frame, self.label), gaps[self.label], strict=True)
            groups["class"] = [None if gap else class_of.get(text, text) for text, gap in texts]
        return groups

    def _checked(self, frame: Any) -> Any:
        """``frame``, every named column of which exists, without the dropped ones."""
        known = [str(name) for name in frame.columns]
        mentions = [*self._answers.roles.items(), ("site", self.site), ("patient", self.patient)]
        mentions += [("drop", name) for name in self.drop] + [("ranges", bounds[0]) for bounds in self.ranges]
        mentions += [("categories", listed[0]) for listed in self.categories]
        mentions += [("missing", one[0]) for one in self.missing if not isinstance(one, str)]
        mentions += [("attributes", name) for name in self.attributes] + [("fill", name) for name in self.fill or ()]
        for knob, name in mentions:
            if name is not None and name not in known:
                raise Refused(f"there is no column {name!r}", remedy=nearest(name, known), where=knob)
        frame = frame.drop(columns=list(self.drop))
        check_types(frame)
        if self.decimal != "." and not text_columns(frame):
            raise Refused("no column holds text, so there is no decimal mark", remedy="take it out", where="decimal")
        return frame

    def _features(self, frame: Any, gaps: Any, names: Sequence[str]) -> Iterator[tuple[str, Encoded]]:
        """Each feature, and behind it the mark of its gaps where it is to have one."""
        for name in names:
            gap = gaps[name].to_numpy()
            yield name, self._encoded(frame, name, gap)
            if name in self.mark_missing:
                if f"{name} missing" in frame.columns:
                    raise Refused(f"there is a column {name + ' missing'!r} already", remedy="rename it", where=name)
                yield f"{name} missing", marked(gap)

    def _encoded(self, frame: Any, name: str, gap: npt.NDArray[np.bool_]) -> Encoded:
        """Column ``name`` as features, with the constant of the study where it has a ``gap (n,)``."""
        declared, listed = self._declared(name), self._listed.get(name)
        constant = (self.fill or {}).get(name)
        known = frame if constant is None else frame[~gap]
        check_index_name(name)
        values = None if listed is not None else numeric_values(known, name, declared, self.decimal)
        patients = self.patient is not None
        if values is not None:
            whole = values if constant is None else filled(values, gap, constant, name)
            encoded = encode_numbers(whole, declared, name, known[name].nunique(), frame.index)
            encoded = replace(encoded, note=row_number_note(whole, name))
            check_person_name(name, patients=patients)
            return encoded
        check_person_name(name, patients=patients)
        if declared is not None:
            raise Refused(f"column {name!r} does not hold numbers", remedy="declare categories", where="ranges")
        words = plain_words(column_words(known, name))
        if listed is None:
            check_no_marks(words, known.index, name)
        if constant is None:
            return encode_words(np.array(words, dtype=object), listed, name, frame.index)
        listed = None if listed is None else with_constant(listed, constant, name)
        return encode_words(filled(words, gap, constant, name), listed, name, frame.index)

    def _declared(self, name: str) -> tuple[float, float] | None:
        return {bounds[0]: (bounds[1], bounds[2]) for bounds in self.ranges}.get(name)

    def _holds_numbers(self, frame: Any, name: str) -> bool:
        """Whether column ``name`` is one of numbers, as far as can be told of what may be refused later."""
        try:
            return (
                name not in self._listed and numeric_values(frame, name, self._declared(name), self.decimal) is not None
            )
        except Refused:
            return True


def _plain_all(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(plain_text, words))
