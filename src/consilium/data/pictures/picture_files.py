"""All pictures below a folder, whatever the folders between are called, where a list or masks say what is in them.

Where the first folder of each path names a split (``train/01.png``), that is the picture's split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from consilium.core.errors import Refused
from consilium.core.records import Omission
from consilium.data.checks.omissions import first
from consilium.data.dataset import TRAIN
from consilium.data.files.origin import check_printable
from consilium.data.files.split_names import check_one_spelling, split_named

from .hidden_files import check_hidden_folders, hidden_omissions, is_hidden, is_system_file
from .picture_tree import PICTURES

__all__ = ["PictureFiles", "picture_files"]


@dataclass(frozen=True)
class PictureFiles:
    """Paths below the folder in alphabetical order, their splits (none where there are none), and what is not read."""

    paths: tuple[str, ...]
    splits: dict[str, int]
    omitted: tuple[Omission, ...]


def picture_files(root: Path, without: Collection[Path]) -> PictureFiles:
    """The pictures below ``root``; files and folders in ``without`` are something else.

    Raises Refused: no picture, a hidden folder of them, or a part of the pictures in folders of a split.
    """
    check_hidden_folders(sorted({*root.iterdir()} - {*without}), PICTURES.endings)
    files = list(_below(root, without))
    paths = [file.relative_to(root).as_posix() for file in files if file.suffix.lower() in PICTURES.endings]
    unread = [str(file.relative_to(root)) for file in files if file.suffix.lower() not in PICTURES.endings]
    if not paths:
        raise Refused(f"{root} holds no picture", remedy="name the folder of .png or .jpg files", where="path")
    omitted = (Omission("files not read: not .png, .jpg or .jpeg", len(unread), "", first(unread)),) if unread else ()
    twice = _two_formats(paths)
    return PictureFiles(tuple(paths), _splits(paths, root), (*omitted, *twice, *hidden_omissions(root, without)))


def _two_formats(paths: list[str]) -> tuple[Omission, ...]:
    """Pictures of one name and two endings, which may be one picture that is read twice."""
    stems = [PurePosixPath(path).with_suffix("").as_posix() for path in paths]
    names = sorted(stem for stem, count in Counter(stems).items() if count > 1)
    what = "names of pictures stand under two endings (0.png beside 0.jpg), and each is read: is it one picture?"
    return (Omission(what, len(names), "", first(names)),) if names else ()


def _splits(paths: list[str], root: Path) -> dict[str, int]:
    tops = sorted({PurePosixPath(path).parts[0] for path in paths})
    named = {top: split for top in tops if (split := split_named(top)) is not None}
    check_one_spelling(list(named), str(root))
    if TRAIN not in named.values():
        return {}
    others = [top for top in tops if top not in named]
    if others:
        raise Refused(
            f"{root} has folders of a split ({', '.join(sorted(named))}), and pictures outside them, such as in "
            f"{others[0]!r}",
            remedy="move them into train, val or test, or rename those folders",
            where="path",
        )
    return {path: named[PurePosixPath(path).parts[0]] for path in paths}


def _below(folder: Path, without: Collection[Path]) -> Iterator[Path]:
    """Every file that is seen below ``folder``, in alphabetical order; links to folders are not followed."""
    for entry in sorted(folder.iterdir()):
        if is_hidden(entry) or is_system_file(entry) or entry in without:
            continue
        check_printable(entry)
        if not entry.is_dir():
            yield entry
        elif not entry.is_symlink():
            yield from _below(entry, without)
