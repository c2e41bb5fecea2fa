"""Which files of a folder are pictures (or texts) of which class and split, and which are not read.

    root/<class>/*.png            or            root/<split>/<class>/*.png

Files of other endings, folders in the place of files and folders that are no split are counted; a class of which no
picture is read is refused, and so are two classes whose names differ only by case, blanks or the coding of accents.
Names of the operating system and hidden ones are counted, and a split or class that is hidden is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from consilium.core.errors import Refused
from consilium.core.records import Omission
from consilium.data.checks.gap_words import names_no_class
from consilium.data.checks.look_alikes import drawn, visible_difference
from consilium.data.checks.omissions import first
from consilium.data.dataset import TRAIN
from consilium.data.files.origin import check_printable
from consilium.data.files.split_names import check_one_spelling, split_named
from consilium.data.pictures.hidden_files import check_hidden_folders, hidden_omissions, is_hidden, is_system_file

__all__ = ["FORMATS", "PICTURES", "FileKind", "Picture", "Tree", "read_tree"]

FORMATS = ("PNG", "JPEG")
"""The only decoders that are used: others hand a file's bytes to programs that run what is in them (EPS)."""

_COPY = re.compile(r"(.+?)(?:[ _-]+(?:copy|kopie|copie|copia)(?:[ _]?\(?\d+\)?)?| ?\(\d+\)|~)", re.IGNORECASE)
"""ill - Copy, ill copy 2, ill (1)."""


@dataclass(frozen=True)
class FileKind:
    """What is read: files of these ``endings``, called by ``noun``; ``shown`` are those that are named to a user."""

    endings: tuple[str, ...]
    noun: str
    shown: str


PICTURES = FileKind((".png", ".jpg", ".jpeg"), "picture", ".png or .jpg")


@dataclass(frozen=True)
class Picture:
    """A file that is read with its class, and its split where the folder gives one."""

    file: Path
    label: str
    split: int | None


@dataclass(frozen=True)
class Tree:
    """The files that are read in alphabetical order, and what is not read."""

    pictures: tuple[Picture, ...]
    omitted: tuple[Omission, ...]


def read_tree(root: Path, kind: FileKind = PICTURES) -> Tree:
    """The files of ``kind`` below ``root``; refused, by name, where a class has none that is read.  Raises OSError."""
    check_hidden_folders(sorted(root.iterdir()), kind.endings)
    children = _entries(root)
    folders = [child for child in children if child.is_dir()]
    parts = _parts(folders, root)
    pictures: list[Picture] = []
    unread = [child for child in children if not child.is_dir()]
    empty: list[Path] = []
    for part, split in parts:
        beside = _entries(part) if split is not None else children
        unread += [entry for entry in beside if not entry.is_dir() and split is not None]
        for label in (entry for entry in beside if entry.is_dir()):
            files, others = _pictures(label, kind)
            empty += [label] if not files and not others else []
            pictures += [Picture(file, label.name, split) for file in files]
            unread += others
        check_hidden_folders(sorted(part.iterdir()), kind.endings)
    used = {part for part, _ in parts}
    unread += [file for folder in folders if used != {root} and folder not in used for file in _below(folder)]
    _check_named({picture.label for picture in pictures})
    _check_copies({picture.label for picture in pictures})
    _check_classes(pictures, [*unread, *_hidden_files(parts, kind)], parts, kind)
    _check_spelling(picture.file.parent for picture in pictures)
    alone = [str(folder.relative_to(root)) for folder in empty]
    folders_left = (Omission(f"folders without a {kind.noun}", len(alone), "", first(alone)),) if alone else ()
    return Tree(tuple(pictures), (*_omitted(unread, root, kind), *hidden_omissions(root), *folders_left))


def _parts(folders: list[Path], root: Path) -> list[tuple[Path, int | None]]:
    """The folders that hold classes, each with its split; the root alone where it is not divided."""
    named = [(folder, split) for folder in folders if (split := split_named(folder.name)) is not None]
    check_one_spelling([folder.name for folder, _ in named], str(root))
    if not named:
        return [(root, None)]
    if TRAIN not in {split for _, split in named}:
        raise Refused(
            f"{root} has a folder {named[0][0].name!r} and none called train",
            remedy="divide it into train, val and test, or rename the folder if it is a class",
            where="path",
        )
    return list(named)


def _pictures(folder: Path, kind: FileKind) -> tuple[list[Path], list[Path]]:
    """The files of ``kind`` in ``folder``, and all other files in it and below it."""
    entries = _entries(folder)
    files = [entry for entry in entries if entry.is_file() and entry.suffix.lower() in kind.endings]
    others = [entry for entry in entries if not entry.is_dir() and entry not in set(files)]
    return files, [*others, *(file for entry in entries if entry.is_dir() for file in _below(entry))]


def _check_named(labels: Iterable[str]) -> None:
    """Refuse a class that is called as programs call a label which is not known."""
    for label in sorted(labels):
        if names_no_class(label):
            raise Refused(
                f"class {label!r} is called as a program writes a label that is not known",
                remedy="rename the folder if it is a class, or move it away",
                where="path",
            )


def _check_copies(labels: set[str]) -> None:
    """Refuse a class that is called as a file browser calls the copy of another."""
    for label in sorted(labels):
        of = _COPY.fullmatch(label)
        if of and of[1] in labels:
            raise Refused(
                f"class {label!r} is called as a copy of {of[1]!r}",
                remedy="put the files of one class into one folder, or rename it if it is a class of its own",
                where="path",
            )


def _check_classes(
    pictures: Iterable[Picture], unread: Iterable[Path], parts: list[tuple[Path, int | None]], kind: FileKind
) -> None:
    """Refuse a class that has files and not one that is read, in any split."""
    read = {picture.label for picture in pictures}
    missing: dict[str, list[Path]] = {}
    for file in unread:
        for part, _ in parts:
            inside = file.relative_to(part).parts if file.is_relative_to(part) else ()
            if len(inside) > 1 and inside[0] not in read:
                missing.setdefault(inside[0], []).append(file)
    for label, files in sorted(missing.items()):
        raise Refused(
            f"class {label!r} is lost whole: none of its {len(files)} files is read, such as {files[0].name}",
            remedy=f"put {kind.shown} files straight into the folder of their class, or move the folder away",
            where="path",
        )


def _check_spelling(folders: Iterable[Path]) -> None:
    """Refuse two class names that look alike: ``train/Normal`` beside ``test/normal``."""
    first_paths: dict[tuple[str, str], Path] = {}
    for folder in dict.fromkeys(folders):
        keys = ("plain", _plain(folder.name)), ("drawn", drawn(folder.name))
        others = [first_paths.setdefault(key, folder) for key in keys]
        other = next((one for one in others if one.name != folder.name), None)
        if other is not None:
            raise Refused(
                f"{str(other)!r} and {str(folder)!r} differ only by case, blanks or the coding of accents, or look "
                f"alike{visible_difference(other.name, folder.name)}",
                remedy="give the folders of one class one name; they would be two classes",
                where="path",
            )


def _plain(name: str) -> str:
    """``name`` without invisible differences: case, blanks, characters of no width, the coding of accents."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(c for c in text if not c.isspace() and unicodedata.category(c) != "Cf")


def _omitted(unread: list[Path], root: Path, kind: FileKind) -> tuple[Omission, ...]:
    """The files not read, by why."""
    groups: dict[str, list[str]] = {}
    for file in unread:
        groups.setdefault(_why(file, kind), []).append(str(file.relative_to(root)))
    return tuple(Omission(what, len(names), "", first(names)) for what, names in sorted(groups.items()))


def _why(file: Path, kind: FileKind) -> str:
    ending = file.suffix.lower()
    if file.is_symlink() and not file.exists():
        return "links not read: they lead nowhere"
    if ending in kind.endings:
        return f"{kind.noun}s not read: not straight in the folder of a class"
    *others, last = kind.endings
    known = f"{', '.join(others)} or {last}" if others else last
    return f"files not read: {ending or 'no ending'} is not {known}"


def _below(folder: Path) -> list[Path]:
    """Every file below ``folder``; links to folders are not followed."""
    files: list[Path] = []
    for entry in _entries(folder):
        if entry.is_dir() and not entry.is_symlink():
            files += _below(entry)
        elif not entry.is_dir():
            files.append(entry)
    return files


def _hidden_files(parts: list[tuple[Path, int | None]], kind: FileKind) -> list[Path]:
    """The files straight in the folder of a class whose own names are hidden."""
    labels = [entry for part, _ in parts for entry in _entries(part) if entry.is_dir()]
    hidden = [file for label in labels for file in label.iterdir() if is_hidden(file) and not is_system_file(file)]
    return [file for file in hidden if file.suffix.lower() in kind.endings]


def _entries(folder: Path) -> list[Path]:
    """What is seen in ``folder``, in alphabetical order; a name that is not text is refused."""
    entries = sorted(entry for entry in folder.iterdir() if not is_hidden(entry) and not is_system_file(entry))
    for entry in entries:
        check_printable(entry)
    return entries
