"""Texts with their labels, sites and patients, from a CSV or a folder of .txt files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from consilium.core.catalogue import nearest
from consilium.core.errors import Refused
from consilium.core.records import Omission
from consilium.data.columns.spelling import plain_text
from consilium.data.files.origin import given_folder
from consilium.data.pictures.picture_tree import FileKind, read_tree

from ._text_rows import decoded, read_rows

__all__ = ["Texts", "texts_of_file", "texts_of_folder"]

_ROLES = ("text", "label", "site", "patient")
_TEXT_FILES = FileKind((".txt",), "text", ".txt")


@dataclass(frozen=True)
class Texts:
    """``texts[k]`` with ``labels[k]`` is found at ``places[k]``; sites and patients are empty where none are named.

    ``splits`` are those of a folder that has them; ``files`` are all that was read, below ``root`` where that is one.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    sites: Sequence[str]
    patients: Sequence[str]
    places: Sequence[str]
    files: tuple[Path, ...]
    root: Path | None = None
    splits: Sequence[int] | None = None
    omitted: tuple[Omission, ...] = ()

    def select(self, rows: Sequence[int]) -> Texts:
        """Those at ``rows``, in that order."""
        return replace(
            self,
            texts=[self.texts[k] for k in rows],
            labels=[self.labels[k] for k in rows],
            sites=[self.sites[k] for k in rows] if self.sites else [],
            patients=[self.patients[k] for k in rows] if self.patients else [],
            places=[self.places[k] for k in rows],
            splits=None if self.splits is None else [self.splits[k] for k in rows],
        )


def texts_of_file(file: Path, columns: Sequence[str | None], separator: str, max_bytes: int) -> Texts:
    """The texts in a CSV; ``columns`` are the names of those of text, label, site and patient.

    Raises Refused: a column is not there, or there twice.
    """
    names, rows = read_rows(file, separator, max_bytes)
    values: list[list[str]] = []
    for role, name in zip(_ROLES, columns, strict=True):
        if name is not None and names.count(name) != 1:
            twice = names.count(name) > 1
            reason = f"two columns of {file} are called {name!r}" if twice else f"there is no column {name!r} in {file}"
            raise Refused(reason, remedy="rename one" if twice else nearest(name, names), where=role)
        values.append([] if name is None else [row[names.index(name)] for row in rows])
    texts, labels, sites, patients = values
    places = [f"row {number}" for number in range(1, len(rows) + 1)]
    labels = [plain_text(label) for label in labels]
    for place, label in zip(places, labels, strict=True):
        if not label:
            raise Refused(f"{place} has no label", remedy="name the class of every text", where="label")
    return Texts(texts, labels, [plain_text(site) for site in sites], patients, places, (file,))


def texts_of_folder(path: str, site: str | None, patient: str | None, max_bytes: int) -> Texts:
    """The texts in path/<class>/*.txt; ``site`` and ``patient`` are found in a file's name by regular expressions.

    Raises Refused: fewer than two classes, a file that cannot be read, or an expression that finds nothing.
    """
    root = given_folder(path)
    try:
        tree = read_tree(root, _TEXT_FILES)
        files = [one.file for one in tree.pictures]
        size = sum(file.stat().st_size for file in files)
        if size > max_bytes:
            reason = f"the files of {root} hold {size} bytes, more than max-bytes = {max_bytes}"
            raise Refused(reason, remedy="raise max-bytes if this machine can hold it", where="max-bytes")
        texts = [decoded(file.read_bytes(), file) for file in files]
    except OSError as error:
        raise Refused(f"{error.filename} cannot be read: {error.strerror}", where="path") from error
    if len({one.label for one in tree.pictures}) < 2:
        reason = f"{root} has texts of {len({one.label for one in tree.pictures})} classes"
        raise Refused(reason, remedy="put .txt files into one folder for each class, two classes or more", where="path")
    return Texts(
        texts,
        [one.label for one in tree.pictures],
        _matches(site, files, "site"),
        _matches(patient, files, "patient"),
        [str(file.relative_to(root)) for file in files],
        tuple(files),
        root,
        [one.split for one in tree.pictures if one.split is not None] or None,
        tree.omitted,
    )


def _matches(pattern: str | None, files: Sequence[Path], where: str) -> list[str]:
    """What the one group of ``pattern`` finds in each file's name."""
    if pattern is None:
        return []
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise Refused(f"{pattern!r} is no regular expression: {error}", where=where) from error
    if expression.groups != 1:
        reason = f"{pattern!r} has {expression.groups} groups"
        raise Refused(reason, remedy="give a regular expression with one group", where=where)
    groups: list[str] = []
    for file in files:
        match = expression.search(file.name)
        if match is None or not match[1]:
            raise Refused(f"{pattern!r} finds nothing in {file.name}", remedy="name it in every file", where=where)
        groups.append(match[1])
    return groups
