"""The origin of data: the folders that are searched, and the digests of the files found."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from consilium.core.errors import Refused
from consilium.core.files import opened

__all__ = ["check_printable", "data_folder", "digest_of_file", "expanded", "given_file", "given_folder", "stated"]

_CHUNK = 1 << 20
_DATA = "CONSILIUM_DATA"
_WRONG = {"file": "is a file, not a folder", "folder": "is a folder, not a file", "none": "does not exist",
          "other": "is a FIFO, a socket or a device, not a file"}  # fmt: skip


def data_folder() -> Path | None:
    """The folder named by the environment variable CONSILIUM_DATA, if it is set; refused if it is no folder."""
    named = os.environ.get(_DATA)
    return given_folder(named, _DATA) if named else None


def given_file(path: str, where: str = "path") -> Path:
    """The file the user names, or a refusal at ``where``.

    ``~`` is expanded; a relative path that does not exist is looked for in the folder CONSILIUM_DATA.

    Raises Refused: no such file.
    """
    target = _located(path, where)
    kind = _kind(target)
    if kind != "file":
        raise Refused(f"{target} {_WRONG[kind]}", remedy=f"name an existing file{_place(target)}", where=where)
    return target


def given_folder(path: str, where: str = "path") -> Path:
    """The folder the user names, or a refusal at ``where``; it is looked for as a file is.

    Raises Refused: no such folder.
    """
    target = _located(path, where)
    kind = _kind(target)
    if kind != "folder":
        raise Refused(f"{target} {_WRONG[kind]}", remedy=f"name an existing folder{_place(target)}", where=where)
    return target


def _located(path: str, where: str) -> Path:
    """``path`` itself, or below CONSILIUM_DATA where it is relative and only there."""
    target = expanded(path)
    check_printable(target)
    if target.is_absolute() or where == _DATA or _kind(target) != "none":
        return target
    folder = data_folder()
    return folder / target if folder is not None and _kind(folder / target) != "none" else target


def _place(target: Path) -> str:
    """Where else a relative path that does not exist is looked for, if CONSILIUM_DATA is not set."""
    unset = not target.is_absolute() and not os.environ.get(_DATA)
    return f", or set {_DATA} to the folder that holds it" if unset and _kind(target) == "none" else ""


def check_printable(path: Path) -> None:
    """Refuse a path whose name is no text (bytes of another encoding, as zips from other systems bring): by name.

    Raises Refused: a name that is not UTF-8.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise Refused(f"the name of {shown} is not UTF-8", remedy="rename it", where="path") from error


def expanded(path: str) -> Path:
    """``path`` with ``~`` written out; refused where there is no such home.

    Raises Refused: an unknown home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise Refused(f"{path} names an unknown home", remedy="write the path in full", where="path") from error


def digest_of_file(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal digest of a file.

    Raises Refused: the file cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with opened(path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", remedy="check its permissions") from error
    return digest.hexdigest()


def stated(paths: Iterable[Path], root: Path | None = None) -> str:
    """A provenance line: the file, or the folder ``root`` and how many files of it, with one sha256 of it all."""
    files = sorted(paths)
    if root is None:
        return f"{files[0]}, sha256 {digest_of_file(files[0])}"
    lines = "".join(f"{digest_of_file(file)}  {file.relative_to(root).as_posix()}\n" for file in files)
    return f"{root}, {len(files)} files, sha256 of their list {hashlib.sha256(lines.encode()).hexdigest()}"


def _kind(path: Path) -> str:
    try:
        kind = "file" if path.is_file() else "folder" if path.is_dir() else "none"
        return "other" if kind == "none" and path.exists() else kind
    except OSError as error:
        raise Refused(
            f"{path} cannot be looked at: {error.strerror}", remedy="check the path and its rights"
        ) from error
