"""Names in a folder of pictures that nobody sees: files of the operating system, and names that begin with a point.

    .DS_Store, ._scan.png, __MACOSX, Thumbs.db    made by a system, whatever their ending: left out and counted
    .scan.png                                     a picture that somebody has hidden: left out, counted by name
    .test/, .ill/                                 a split or class that is hidden: refused by name

A file browser shows none of them, so a figure without them may be one of other data than its reader believes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from consilium.core.errors import Refused
from consilium.core.records import Omission
from consilium.data.checks.omissions import first

__all__ = ["check_hidden_folders", "hidden_omissions", "is_hidden", "is_system_file"]

_SYSTEM = re.compile(
    r"\._.*|\.DS_Store|__MACOSX|\.AppleDouble|\.LSOverride|\.Spotlight-V100|\.Trash(?:es|-\d+)?|\.fseventsd|\.localized"
    r"|\.TemporaryItems|\.DocumentRevisions-V100|\.apdisk|\.VolumeIcon\.icns|Icon\r|(?:eh)?Thumbs\.db|desktop\.ini"
    r"|\$RECYCLE\.BIN|System Volume Information|@eaDir|@Recycle|#recycle|lost\+found|\.directory|\.nfs[0-9a-f]+"
    r"|\.thumbnails|\.ipynb_checkpoints",
    re.IGNORECASE,
)


def is_system_file(path: Path) -> bool:
    """Whether macOS, Windows, a desktop, a file server or Jupyter makes files or folders of this name."""
    return _SYSTEM.fullmatch(path.name) is not None


def is_hidden(path: Path) -> bool:
    """Whether the name begins with a point."""
    return path.name.startswith(".")


def check_hidden_folders(folders: Iterable[Path], endings: tuple[str, ...]) -> None:
    """Refuse that a folder at the place of a split or class is hidden and holds pictures, by their ``endings``.

    Raises Refused: such a folder.
    """
    for folder in folders:
        if not is_hidden(folder) or is_system_file(folder) or not folder.is_dir() or folder.is_symlink():
            continue
        count = sum(file.suffix.lower() in endings and not is_system_file(file) for file in _files(folder))
        if count:
            raise Refused(
                f"{str(folder)!r} holds {count} pictures, and is hidden: its name begins with a point",
                remedy=f"rename it ({folder.name.lstrip('.')}) if it is a split or a class, or move it away",
                where="path",
            )


def hidden_omissions(root: Path, without: Collection[Path] = ()) -> tuple[Omission, ...]:
    """What is not read below ``root``, ``without`` aside, because of its name, by kind.  Raises OSError."""
    groups: dict[str, list[str]] = {}
    for file, what in _unseen(root, without):
        groups.setdefault(what, []).append(str(file.relative_to(root)))
    return tuple(Omission(what, len(names), "", first(names)) for what, names in sorted(groups.items()))


def _unseen(folder: Path, without: Collection[Path]) -> Iterator[tuple[Path, str]]:
    for entry in sorted({*folder.iterdir()} - {*without}):
        deeper = entry.is_dir() and not entry.is_symlink()
        if is_system_file(entry):
            yield from ((file, "files of the operating system not read") for file in _files(entry))
        elif is_hidden(entry):
            yield from ((file, "files not read: hidden, by a name that begins with a point") for file in _files(entry))
        elif deeper:
            yield from _unseen(entry, without)


def _files(path: Path) -> list[Path]:
    """The file at ``path``, or every file below it; links to folders are not followed."""
    if not path.is_dir() or path.is_symlink():
        return [path]
    return [file for entry in sorted(path.iterdir()) for file in _files(entry)]
