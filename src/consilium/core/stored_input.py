"""Files of a study's inputs that were handed over as objects: named by their SHA-256, in the study's folder.

    OUT/STUDY/inputs/<sha256>.npz | .csv | .safetensors       readable by their owner alone

A study names one as ``inputs/<sha256>.npz``, whatever its folder is called and wherever it lies.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from .errors import Failed, Refused
from .files import replace, unwritten
from .plain import Json
from .seal import file_digest

__all__ = ["input_place", "shared_name", "shown_input", "stored_input", "write_input"]

_FOLDER = "inputs"
_NAME = re.compile(rf"(?:.*/)?({_FOLDER}/([0-9a-f]{{64}})\.(npz|csv|safetensors))")
_OBJECTS = {"npz": "the arrays", "csv": "the DataFrame", "safetensors": "the module"}


def write_input(folder: Path, data: bytes, suffix: str) -> str:
    """Store ``data`` in the study's ``folder``, unless it is there; returns its name.

    Raises Failed: it cannot be written.
    """
    name = f"{_FOLDER}/{hashlib.sha256(data).hexdigest()}.{suffix}"
    path = folder / name
    if path.is_file() and path.stat().st_size == len(data):
        return name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(path, data, 0o600)
    except OSError as error:
        raise Failed(f"cannot write {path}: {error}", remedy=unwritten(error)) from error
    return name


def stored_input(path: str, folders: Sequence[Path]) -> str:
    """Where the input is that is called ``path``; anything else is as it was.

    Raises Refused: the file is not the one that was stored.
    """
    match = _NAME.fullmatch(path)
    for folder in folders if match else ():
        if match and (file := folder / match[1]).is_file():
            if file_digest(file) != match[2]:
                raise Refused(f"{file} was changed after it was stored", remedy="run the study again with the objects")
            return str(file)
    return path


def input_place(path: str) -> str:
    """How a refusal names the file at ``path``: not at all, if it holds objects, which stand in the study itself."""
    return "" if _NAME.fullmatch(path) else path


def shown_input(path: str | Path) -> str:
    """What a sentence calls the file at ``path``: the object that it holds, or the file itself."""
    match = _NAME.fullmatch(str(path))
    return _OBJECTS[match[3]] if match else str(path)


def shared_name(path: Json) -> Json:
    """``inputs/<sha256>.npz`` for a stored input in any folder; anything else is as it was."""
    match = _NAME.fullmatch(path) if isinstance(path, str) else None
    return match[1] if match else path
