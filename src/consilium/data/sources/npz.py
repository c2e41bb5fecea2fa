"""Your own arrays: ``numpy.savez("mine.npz", x=..., y=..., units=patient, keys=hospital)``.

``x`` holds uint8 images or floats in [0, 1], ``y`` labels 0, 1, ...; or the parts are named as MedMNIST names them,
``{train,val,test}_images`` and ``_labels``.  ``units`` and ``keys`` may be any values; ``columns`` names features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.task import Task
from consilium.data.checks.omissions import by_site, first
from consilium.data.checks.verify import check_labels
from consilium.data.dataset import Dataset
from consilium.data.files.archive import array_names, read_npz
from consilium.data.files.layout import NAMES, laid_out, standard_names
from consilium.data.files.origin import given_file, stated
from consilium.data.source import Source

from ._row_numbers import check_person_name, row_number_features
from ._spelling import check_words

__all__ = ["NPZ"]


@dataclass(frozen=True)
class NPZ(Source):
    """Your own arrays in an npz file: x and y, or {train,val,test}_images and _labels; patients and sites beside them.

    ``task`` of the data table says what y is: a class each, or findings ``(n, k)``, numbers ``(n, k)``, masks.

    ``classes`` names the labels 0, 1, ...; without it they are read from the records.  ``max_bytes`` bounds what the
    arrays take in memory as float32.

    Source: the npz format of NumPy (NEP 1)
    """

    path: str
    """Your npz file, with the arrays x and y, and site, patient and split if you have them."""
    classes: tuple[str, ...] | None = None
    """Names of the labels 0, 1, ...; left out: read from the records, so that no privacy claim can stand on them."""
    max_bytes: int = 4_000_000_000
    """Most bytes of memory that the arrays may take as float32; more is refused."""

    def __post_init__(self) -> None:
        check(self.max_bytes > 0, "max-bytes", self.max_bytes, "a number of bytes above 0")
        names = self.classes if self.classes is not None else ("0", "1")
        check(len(set(names)) == len(names) >= 1, "classes", self.classes, "different names, two or more of classes")
        check_words(names, "classes", alike=True)

    def load(self) -> Dataset:
        """Inputs ``(n, d)`` or ``(n, c, h, w)``; the split, patients and sites that the file gives."""
        return self._read(None)

    def load_for(self, task: Task) -> Dataset:
        """The same with labels as ``task`` has them: y ``(n, findings)``, ``(n, quantities)`` or ``(n, h, w)``."""
        return self._read(None if task.exclusive else task)

    def _read(self, task: Task | None) -> Dataset:
        file = given_file(self.path)
        known, unread = standard_names(array_names(file), str(file))
        arrays = read_npz(file, known or NAMES, self.max_bytes)
        dataset = laid_out({known.get(name, name): array for name, array in arrays.items()}, str(file), task)
        classes = self.classes or (_counted(dataset.records.y, file) if task is None else task.names(dataset.records.y))
        if task is None:
            check(self.classes is None or len(classes) >= 2, "classes", self.classes, "two different names or more")
            check_labels(dataset.records.y, len(classes), str(file))
        for column in dataset.inputs.columns:
            check_person_name(column.name, patients=bool(dataset.unit_names))
        return Dataset(
            name=self.kind(),
            records=dataset.records,
            split=dataset.split,
            keys=dataset.keys,
            classes=classes,
            provenance=stated([file]),
            bundled=False,
            notes=() if self.classes else ("the list of classes was read from the labels; name them by classes",),
            key_names=dataset.key_names,
            unit_names=dataset.unit_names,
            omitted=by_site("arrays not read", [""] * len(unread), first(unread)),
            inputs=replace(dataset.inputs, classes_declared=self.classes is not None),
            cautions=(*row_number_features(dataset.records.x, dataset.split, dataset.inputs.columns), *dataset.copies),
        )


def _counted(y: Tensor, file: Path) -> tuple[str, ...]:
    present = torch.unique(y).tolist()
    if present != list(range(len(present))):
        gap = next(k for k, label in enumerate(present) if k != label)
        raise Refused(
            f"labels run up to {present[-1]}, and no record has the label {gap}",
            remedy="number the classes 0, 1, ... without gaps, or name all of them by classes",
            where=str(file),
        )
    return tuple(str(label) for label in present)
