"""A folder of pictures: ``path/<class>/*.png``, or ``path/{train,val,test}/<class>/*.png`` with its own split.

Or pictures anywhere below it, with a CSV that says what is in each (findings, quantities, classes), or with a folder
of masks.

Every picture is made grey or colour and resized as a whole to size x size pixels (bilinear, proportions not kept).  A
picture's size is read from its header and refused before it is unpacked, where it is too large.  Only the decoders of
PNG and JPEG are ever used, whatever a file's extension; files that are not read are counted.  More than 8 bits,
transparent pixels, several frames and CMYK are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from consilium.core.attribute import Attribute
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.records import Omission, Records
from consilium.core.task import Task
from consilium.data.checks.gap_words import unknown_cautions
from consilium.data.checks.omissions import unknown_values
from consilium.data.checks.scales import check_depth
from consilium.data.columns.answer_columns import AnswerColumns, check_rows, task_answers
from consilium.data.columns.attribute_columns import attribute_of
from consilium.data.columns.encoding import check_classes
from consilium.data.columns.listed_findings import listed_findings
from consilium.data.columns.roles import check_attributes, check_roles
from consilium.data.columns.spelling import check_words, check_words_apart, plain_text
from consilium.data.dataset import Dataset
from consilium.data.files.arrays import identities, inputs, numbered
from consilium.data.files.meaning import BYTES
from consilium.data.files.origin import given_file, given_folder, stated
from consilium.data.pictures.class_folders import mask_cautions, shared_patient_cautions
from consilium.data.pictures.mask_pictures import idle_masks, mask_files, read_masks
from consilium.data.pictures.picture import read_picture
from consilium.data.pictures.picture_files import PictureFiles, picture_files
from consilium.data.pictures.picture_tree import Tree, read_tree
from consilium.data.source import Source
from consilium.data.tables.labels_file import LabelRows, read_labels

__all__ = ["ImageFolder"]


@dataclass(frozen=True)
class ImageFolder(Source):
    """Your own pictures: path/<class>/*.png or *.jpg, or path/{train,val,test}/<class>/...; needs the extra ``images``.

    Every picture is converted to ``size`` and ``channels`` (1 grey, 3 colour).  ``units`` is a regular expression
    with one group that finds the patient in a file's name.  Pictures of more than ``max_pixels``, or more than
    ``max_bytes`` in all, are refused.

    ``labels`` names a CSV instead, in the folder or elsewhere: ``file`` is its column of the pictures' names;
    ``label``, ``target``, ``time`` and ``event`` are those that the task reads, ``patient`` and ``site`` say whose a
    picture is.  Where one target column lists findings (Effusion|Nodule, parted by ``between``), ``classes`` names
    them, and ``ignore`` words that mean none of them.  ``masks`` names a folder with a mask for each picture.
    ``attributes`` are columns of the CSV, or named groups of ``pattern``, a regular expression on a picture's path;
    they are no inputs.

    Source: the folder layout of torchvision's ImageFolder
    """

    added_later: ClassVar[tuple[str, ...]] = (
        *("labels", "file", "separator", "label", "target", "time", "event", "patient", "site", "classes", "ignore"),
        *("between", "missing", "drop_missing", "masks", "attributes", "pattern"),
    )

    path: str
    """Folder with one folder of pictures for each class."""
    size: int = 28
    """Height and width that every picture is scaled to, in pixels."""
    channels: int = 1
    """Every picture is converted: 1 is grey, 3 is colour."""
    units: str | None = None
    """Regular expression with one group that finds the patient in a file's name; left out: a file is a patient."""
    max_pixels: int = 50_000_000
    """Larger pictures are refused, before they are decoded."""
    max_bytes: int = 4_000_000_000
    """Most bytes of memory that the arrays may take as float32; more is refused."""
    labels: str | None = None
    """CSV that says what is in each picture, in the folder or elsewhere; left out: the folders name the classes."""
    file: str = "file"
    """The column of ``labels`` with the names of the pictures."""
    separator: str = ","
    """What parts the columns of ``labels``."""
    label: str | None = None
    """The column of ``labels`` with the class of a picture."""
    target: str | tuple[str, ...] | None = None
    """The column or columns of ``labels`` with the findings or quantities that the task asks."""
    time: str | None = None
    """The column of ``labels`` with the time of a record, for the task survival."""
    event: str | None = None
    """The column of ``labels`` that says whether the event was seen (1) or the record is censored (0)."""
    patient: str | None = None
    """The column of ``labels`` that names the patient; left out: by ``units``, or every picture is a patient."""
    site: str | None = None
    """The column of ``labels`` that names the hospital."""
    classes: tuple[str, ...] | None = None
    """Names of the classes or findings, in order; left out: read from the labels."""
    ignore: tuple[str, ...] = ()
    """Words in a list of findings that mean none of them, such as No Finding."""
    between: str = "|"
    """What parts the findings that one column lists."""
    missing: tuple[str, ...] = ()
    """Words, such as NA or ?, that mean that nothing is known."""
    drop_missing: bool = False
    """Whether pictures without an answer are left out, and counted by site; else they are refused."""
    masks: str | None = None
    """Folder with a picture of the mask for each picture, under the same name."""
    attributes: tuple[str, ...] = ()
    """Columns of ``labels``, or groups of ``pattern``, that are known of each picture and are no inputs."""
    pattern: str | None = None
    """Regular expression on a picture's path whose named groups are attributes."""

    def __post_init__(self) -> None:
        check(1 <= self.size <= 4096, "size", self.size, "1 to 4096 pixels")
        check(self.channels in (1, 3), "channels", self.channels, "1 (grey) or 3 (colour)")
        check(self.max_pixels > 0, "max-pixels", self.max_pixels, "a number above 0")
        check(self.max_bytes > 0, "max-bytes", self.max_bytes, "a number above 0")
        check(
            self.units is None or _groups(self.units) == 1, "units", self.units, "a regular expression with one group"
        )
        self._check_listed()

    def load(self) -> Dataset:
        """Inputs ``(n, channels, size, size)``, files in alphabetical order.

        Raises Refused: the folder or a picture in it cannot be read.
        """
        return self._by_class() if self.labels is None else self._by_list(None)

    def load_for(self, task: Task) -> Dataset:
        """The same with labels as ``task`` has them, out of the CSV ``labels`` or the folder ``masks``.

        Raises Refused: neither says what the task asks.
        """
        if task.exclusive:
            return self.load()
        wanted = "masks" if task.kind() == "masks" else "labels"
        if getattr(self, wanted) is None:
            example = 'masks = "FOLDER"' if wanted == "masks" else 'labels = "labels.csv"'
            reason = f"the task {task.kind()} is not asked of folders of classes"
            raise Refused(reason, remedy=f"name what says it of each picture: {example}", where=wanted)
        return self._by_list(task)

    def _by_class(self) -> Dataset:
        root = given_folder(self.path)
        try:
            tree = read_tree(root)
        except OSError as error:
            raise Refused(f"{error.filename} cannot be looked into: {error.strerror}", where="path") from error
        pictures = tree.pictures
        classes = tuple(sorted({picture.label for picture in pictures}))
        self._check_found(root, len(pictures), classes, tree)
        pixels = np.stack(
            [read_picture(picture.file, self.size, self.channels, self.max_pixels) for picture in pictures]
        )
        check_depth([pixels], str(root))
        y = torch.tensor([classes.index(picture.label) for picture in pictures])
        has_splits = pictures[0].split is not None
        units, unit_names = self._units([picture.file for picture in pictures])
        paths = [picture.file.relative_to(root).as_posix() for picture in pictures]
        attributes = tuple(self._attribute(name, paths, None) for name in self.attributes)
        return Dataset(
            name=self.kind(),
            records=Records.of(inputs(pixels, str(root)), y, units, attributes=attributes),
            split=torch.tensor([picture.split for picture in pictures], dtype=torch.int8) if has_splits else None,
            keys=None,
            classes=classes,
            provenance=stated([picture.file for picture in pictures], root),
            bundled=False,
            notes=(f"every picture was resized as a whole to {self.size} x {self.size} pixels",),
            unit_names=unit_names,
            cautions=(
                *unknown_cautions("class", classes),
                *mask_cautions(pictures),
                *shared_patient_cautions(y, units, classes),
            ),
            omitted=tree.omitted,
            inputs=Inputs(preparation=self._preparation(), patients=self.units is not None),
        )

    def _check_listed(self) -> None:
        roles = {**self._answers.roles, "site": self.site, "patient": self.patient}
        check_roles(roles, (), (), ())
        check_attributes(roles, self.attributes, (), {})
        groups = self.pattern is None or _groups(self.pattern) > 0
        check(groups, "pattern", self.pattern, "a regular expression with named groups: (?P<scanner>...)")
        check(len(self.between) > 0, "between", self.between, "the mark between two findings")
        if self.classes is not None:
            check(len(set(self.classes)) == len(self.classes) >= 1, "classes", self.classes, "different names")
            check_words(self.classes, "classes", alike=True)
        idle = {"file": self.file != "file", "separator": self.separator != ",", "ignore": bool(self.ignore)}
        idle |= {"missing": bool(self.missing), "drop_missing": self.drop_missing, "between": self.between != "|"}
        idle |= {knob: True for knob, name in roles.items() if name is not None}
        for knob in (knob for knob, used in idle.items() if used and self.labels is None):
            name = knob.replace("_", "-")
            raise Refused(f"there is no file of labels for {name}", remedy='name it: labels = "labels.csv"', where=name)
        if self.patient is not None and self.units is not None:
            raise Refused("patient names the patients, too", remedy="keep one of them", where="units")
        if self.labels is None and self.masks is None and self.classes is not None:
            raise Refused("the classes are the names of the folders", remedy="take it out", where="classes")

    @property
    def _answers(self) -> AnswerColumns:
        return AnswerColumns(self.label, self.target, self.time, self.event)

    def _by_list(self, task: Task | None) -> Dataset:
        root, sources = given_folder(self.path), list[Path]()
        for name, kind in ((self.labels, given_file), (self.masks, given_folder)):
            if name is not None:
                inside = root / name
                sources.append(inside if inside.exists() else kind(name, "labels" if kind is given_file else "masks"))
        try:
            files = picture_files(root, sources)
        except OSError as error:
            raise Refused(f"{error.filename} cannot be looked into: {error.strerror}", where="path") from error
        masked = task is not None and task.kind() == "masks"
        rows = None if self.labels is None else self._rows(sources[0], files, () if masked else self._asked(task))
        paths = files.paths if rows is None else rows.files
        self._check_size(len(paths))
        idle: tuple[Omission, ...] = ()
        if masked and task is not None:
            y, classes = self._masks(task, sources[-1], root, paths)
            idle = idle_masks(sources[-1], mask_files(sources[-1], paths))
        else:
            y, classes = self._labels(task, rows) if rows is not None else (torch.zeros(0), ())
        pixels = np.stack([read_picture(root / path, self.size, self.channels, self.max_pixels) for path in paths])
        check_depth([pixels], str(root))
        origins = [stated([root / path for path in paths], root)]
        origins += [f"labels {stated([sources[0]])}"] if rows is not None else []
        origins += [f"masks {stated(mask_files(sources[-1], paths), sources[-1])}"] if masked else []
        keys, key_names = self._groups(rows, self.site)
        units, unit_names = self._groups(rows, self.patient)
        if self.patient is None:
            units, unit_names = self._units([root / path for path in paths])
        attributes = tuple(self._attribute(name, paths, rows) for name in self.attributes)
        return Dataset(
            name=self.kind(),
            records=Records.of(inputs(pixels, str(root)), y, units, attributes=attributes),
            split=torch.tensor([files.splits[path] for path in paths], dtype=torch.int8) if files.splits else None,
            keys=keys,
            classes=classes,
            provenance="; ".join(origins),
            bundled=False,
            notes=(f"every picture was resized as a whole to {self.size} x {self.size} pixels",),
            key_names=key_names,
            unit_names=unit_names,
            omitted=(*files.omitted, *idle, *(() if rows is None else rows.omitted), *unknown_values(attributes)),
            inputs=Inputs(
                preparation=self._preparation(),
                patients=self.patient is not None or self.units is not None,
                classes_declared=self.classes is not None or (task is not None and not masked),
            ),
        )

    def _asked(self, task: Task | None) -> tuple[str, ...]:
        return self._answers.of(task, self.kind())

    def _rows(self, file: Path, files: PictureFiles, answers: Sequence[str]) -> LabelRows:
        """The rows of the CSV whose pictures are there, without those with a gap where the study leaves them out."""
        named = {knob: name for knob, name in self._answers.roles.items() if name is not None}
        named |= {knob: name for knob, name in (("patient", self.patient), ("site", self.site)) if name is not None}
        grouped = re.compile(self.pattern).groupindex if self.pattern is not None else {}
        named |= {f"attributes[{k}]": name for k, name in enumerate(self.attributes) if name not in grouped}
        missing, declared = tuple(map(plain_text, self.missing)), (*(self.classes or ()), *self.ignore)
        rows = read_labels(file, self.separator, self.file, named, files.paths, missing)
        if self.drop_missing and answers:
            return rows.without_gaps(answers, missing, declared)
        rows.check_complete(answers, missing, declared)
        return rows

    def _labels(self, task: Task | None, rows: LabelRows) -> tuple[Tensor, tuple[str, ...]]:
        columns = self._asked(task)
        cells = {name: rows.cells[name] for name in columns}
        if task is None:
            words = rows.cells[columns[0]]
            return self._class_numbers(words, rows, columns[0])
        if task.counted and self.classes is not None:
            if len(columns) != 1:
                reason = f"classes names the findings that one column lists, and target names {len(columns)}"
                raise Refused(reason, remedy="take classes out: the columns name the findings", where="classes")
            y = listed_findings(cells[columns[0]], rows.rows, columns[0], self.classes, self.ignore, self.between)
            return y, self.classes
        y = task_answers(task, cells, rows.rows, {}, ".", "labels")
        check_rows(task, y, columns, rows.rows)
        return y, columns

    def _class_numbers(self, words: Sequence[str], rows: LabelRows, name: str) -> tuple[Tensor, tuple[str, ...]]:
        """The class of each picture, by its word in column ``name``."""
        if self.classes is None:
            check_classes(words, name)
            check_words_apart(words, rows.rows, name)
        classes = self.classes or tuple(sorted(set(words)))
        for word, row in zip(words, rows.rows, strict=True):
            if word not in classes:
                reason = f"column {name!r}, row {row}, holds {word!r}, which is none of the classes"
                raise Refused(reason, remedy="add it to classes, or drop its rows", where="classes")
        return torch.tensor([classes.index(word) for word in words]), classes

    def _masks(self, task: Task, folder: Path, root: Path, paths: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
        if getattr(task, "nested", False):
            reason = "a mask as a picture gives each pixel one label"
            raise Refused(reason, remedy="store nested masks in an npz", where="task")
        files, pictures = mask_files(folder, paths), [root / path for path in paths]
        y = read_masks(files, pictures, self.size, len(self.classes or ()), self.max_pixels)
        return y, self.classes or task.names(y)

    def _groups(self, rows: LabelRows | None, name: str | None) -> tuple[Tensor | None, tuple[str, ...]]:
        """The group (patient, site) of each picture, by a column of the CSV."""
        if rows is None or name is None:
            return None, ()
        return numbered(identities(rows.cells[name], name, [f"row {row}" for row in rows.rows]))

    def _attribute(self, name: str, paths: Sequence[str], rows: LabelRows | None) -> Attribute:
        """By the group of ``pattern`` of that name, or the column."""
        if self.pattern is not None and name in re.compile(self.pattern).groupindex:
            matches = [re.search(self.pattern, path) for path in paths]
            words = [(match[name] or "") if match else "" for match in matches]
            return attribute_of(name, words, np.array([not word for word in words]), range(1, len(words) + 1), None)
        if rows is None:
            raise Refused(
                f"nothing says the attribute {name!r} of a picture",
                remedy=f'name a group of pattern so: "(?P<{name}>...)", or a file of labels',
                where="attributes",
            )
        unknown = rows.gaps(name, tuple(map(plain_text, self.missing)))
        return attribute_of(name, rows.cells[name], np.array(unknown), rows.rows, None)

    def _check_size(self, n: int) -> None:
        need = n * self.channels * self.size**2 * 4
        if need > self.max_bytes:
            raise Refused(
                f"{n} pictures take {need / 1e9:.1f} GB, more than max-bytes = {self.max_bytes / 1e9:.1f} GB",
                remedy="choose a smaller size, or raise max-bytes if this machine can hold it",
                where="max-bytes",
            )

    def _preparation(self) -> tuple[tuple[str, str], ...]:
        colour = "grey, ITU-R 601-2" if self.channels == 1 else "RGB"
        return ("colour", colour), ("resampling", "bilinear, as a whole, upright by EXIF"), ("values", BYTES)

    def _check_found(self, root: Path, n: int, classes: tuple[str, ...], tree: Tree) -> None:
        if len(classes) < 2:
            unread = "".join(f"; not read: {one.line()}" for one in tree.omitted)
            raise Refused(
                f"{root} has pictures of {len(classes)} classes{unread}",
                remedy="put .png or .jpg files into one folder for each class, two classes or more",
                where="path",
            )
        self._check_size(n)

    def _units(self, files: list[Path]) -> tuple[Tensor | None, tuple[str, ...]]:
        if self.units is None:
            return None, ()
        matches = [re.search(self.units, file.name) for file in files]
        for match, file in zip(matches, files, strict=True):
            if match is None or not match[1]:
                raise Refused(f"units = {self.units!r} finds nothing in {file.name}", where="units")
        return numbered(identities([match[1] for match in matches if match], "units", [file.name for file in files]))


def _groups(pattern: str) -> int:
    try:
        return re.compile(pattern).groups
    except re.error:
        return -1
