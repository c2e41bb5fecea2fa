"""Your own arrays: ``numpy.savez("mine.npz", x=..., y=..., units=patient, keys=hospital)``.

``x`` holds uint8 images or floats in [0, 1], ``y`` labels 0, 1, ...; or the parts are named as MedMNIST names them,
``{train,val,test}_images`` and ``_labels``.  ``units`` and ``keys`` may be any values; ``columns`` names features.
Arrays that ``attributes`` names (``sex``, ``train_sex``) are kept beside the records and are no inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.attribute import Attribute
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.inputs import MOST_TOKENS
from consilium.core.stored_input import input_place
from consilium.core.task import Task
from consilium.data.checks.omissions import by_site, first, unknown_values
from consilium.data.checks.verify import check_labels
from consilium.data.columns.attribute_columns import attribute_of
from consilium.data.columns.roles import check_attributes
from consilium.data.columns.row_numbers import check_person_name, row_number_features
from consilium.data.columns.spelling import check_words
from consilium.data.dataset import Dataset
from consilium.data.files.archive import array_names, read_npz
from consilium.data.files.attribute_arrays import array_texts, attribute_arrays
from consilium.data.files.layout import NAMES, ArrayDataset, laid_out, standard_names
from consilium.data.files.origin import given_file, stated
from consilium.data.source import Source

__all__ = ["NPZ"]


@dataclass(frozen=True)
class NPZ(Source):
    """Your own arrays in an npz file: x and y, or {train,val,test}_images and _labels; patients and sites beside them.

    ``task`` of the data table says what y is: a class each, or findings ``(n, k)``, numbers ``(n, k)``, masks.

    ``tokens`` is the size of a vocabulary: x ``(n, length)`` then holds the ids of words, 0 for padding and 1 for an
    unknown word.

    ``classes`` names the labels 0, 1, ...; without it they are read from the records.  ``attributes`` names arrays of
    one value a record; ``also_inputs`` those that are features of ``x`` as well.  ``max_bytes`` bounds what the arrays
    take in memory as float32.

    Source: the npz format of NumPy (NEP 1)
    """

    added_later: ClassVar[tuple[str, ...]] = ("tokens", "attributes", "also_inputs")

    path: str
    """Your npz file: x and y, and keys (sites) and units (patients) if you have them; with a split train_images, ..."""
    classes: tuple[str, ...] | None = None
    """Names of the labels 0, 1, ...; left out: read from the records, so that no privacy claim can stand on them."""
    tokens: int = 0
    """Size of the vocabulary where x holds ids of words, padding (0) and unknown (1) included; 0: x holds numbers."""
    max_bytes: int = 4_000_000_000
    """Most bytes of memory that the arrays may take as float32; more is refused."""
    attributes: tuple[str, ...] = ()
    """Names of arrays with one value a record that are no inputs, such as sex or scanner."""
    also_inputs: tuple[str, ...] = ()
    """Those of ``attributes`` that are features of x as well."""

    def __post_init__(self) -> None:
        check(self.max_bytes > 0, "max-bytes", self.max_bytes, "a number of bytes above 0")
        names = self.classes if self.classes is not None else ("0", "1")
        check(len(set(names)) == len(names) >= 1, "classes", self.classes, "different names, two or more of classes")
        check_words(names, "classes", alike=True)
        check(self.tokens == 0 or 3 <= self.tokens <= MOST_TOKENS, "tokens", self.tokens, f"3 to {MOST_TOKENS} ids")
        check_attributes({}, self.attributes, self.also_inputs, {})
        for name in self.attributes:
            if {name, f"train_{name}"} & NAMES:
                reason = f"the array {name!r} has another meaning"
                raise Refused(reason, remedy="store the attribute under a name of its own", where="attributes")

    def load(self) -> Dataset:
        """Inputs ``(n, d)`` or ``(n, c, h, w)``; the split, patients and sites that the file gives."""
        return self._read(None)

    def load_for(self, task: Task) -> Dataset:
        """The same with labels as ``task`` has them: y ``(n, findings)``, ``(n, quantities)`` or ``(n, h, w)``."""
        return self._read(None if task.exclusive else task)

    def _read(self, task: Task | None) -> Dataset:
        file = given_file(self.path)
        where = input_place(str(file))
        names = array_names(file)
        beside = attribute_arrays(self.attributes, names)
        values = {name for parts in beside.values() for name in parts}
        known, unread = standard_names([name for name in names if name not in values], where)
        arrays = read_npz(file, {*(known or NAMES), *values}, self.max_bytes)
        dataset = laid_out({known.get(name, name): array for name, array in arrays.items()}, where, task, self.tokens)
        classes = self.classes or (_counted(dataset.records.y, file) if task is None else task.names(dataset.records.y))
        if task is None:
            check(self.classes is None or len(classes) >= 2, "classes", self.classes, "two different names or more")
            check_labels(dataset.records.y, len(classes), where)
        for column in dataset.inputs.columns:
            self._check_feature(column.name, patients=bool(dataset.unit_names))
        attributes = tuple(
            self._attribute(name, parts, arrays, len(dataset.records), file) for name, parts in beside.items()
        )
        return Dataset(
            name=self.kind(),
            records=replace(dataset.records, attributes=attributes),
            split=dataset.split,
            keys=dataset.keys,
            classes=classes,
            provenance=stated([file]),
            bundled=False,
            notes=()
            if self.classes or (task is not None and not task.whole)
            else ("the list of classes was read from the labels; name them by classes",),
            key_names=dataset.key_names,
            unit_names=dataset.unit_names,
            omitted=(
                *by_site("arrays not read", [""] * len(unread), first(unread)),
                *unknown_values(attributes),
            ),
            inputs=replace(dataset.inputs, classes_declared=self.classes is not None),
            cautions=(*self._numbered(dataset), *dataset.copies),
        )

    def _check_feature(self, name: str, *, patients: bool) -> None:
        check_person_name(name, patients=patients)
        if name in self.attributes and name not in self.also_inputs:
            raise Refused(
                f"the attribute {name!r} is a feature of x, too, and the model would see it",
                remedy=f'leave it out of x, or say so: also-inputs = ["{name}"]',
                where="attributes",
            )

    def _attribute(
        self, name: str, parts: tuple[str, ...], arrays: dict[str, npt.NDArray[Any]], n: int, file: Path
    ) -> Attribute:
        words, unknown = array_texts(name, parts, arrays, n, input_place(str(file)))
        return attribute_of(name, words, unknown, range(n), None)

    def _numbered(self, dataset: ArrayDataset) -> tuple[str, ...]:
        """Features that number the records; ids of words are no features."""
        if self.tokens:
            return ()
        return row_number_features(dataset.records.x, dataset.split, dataset.inputs.columns)


def _counted(y: Tensor, file: Path) -> tuple[str, ...]:
    present = torch.unique(y).tolist()
    if present != list(range(len(present))):
        gap = next(k for k, label in enumerate(present) if k != label)
        raise Refused(
            f"labels run up to {present[-1]}, and no record has the label {gap}",
            remedy="number the classes 0, 1, ... without gaps, or name all of them by classes",
            where=input_place(str(file)),
        )
    return tuple(str(label) for label in present)
