"""Attacks and defences in files beside the study: found from their tables, and stored with the study's evidence.

    [[attacks]]
    path = "my_attack:MIFGSM"       beside the study's file, in the current folder, or where Python imports from
    allow-code = true
    radius = 0.05                   every other key is a parameter of the class

A copy of the code lies in OUT/STUDY/code/SHA256/, where workers on other machines and :func:`consilium.load` find it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from consilium.core.code_file import NOTEBOOK, CodeFile
from consilium.core.entry import Entry
from consilium.core.errors import Refused
from consilium.core.files import replace
from consilium.core.stored_input import stored_input
from consilium.learn.models.stored_module import StoredModule

from .spec import Spec
from .toml_binding import CodePath, is_code, place

__all__ = ["code_files", "code_folder", "pinned", "refuse_code", "store_code", "with_folders", "with_input"]

_TABLES, _INPUTS = ("vary", "attacks", "corruptions"), ("data", "model")


def code_folder(study: Path) -> Path:
    """Where the copies lie in a study's folder."""
    return study / "code"


def with_folders(tables: Mapping[str, Any], folders: Sequence[Path]) -> Mapping[str, Any]:
    """``tables``, in which the files of own entries are looked for in ``folders`` first.

    Of a table with a digest it is the copy of that digest.  So are stored inputs of the study.

    Raises Refused: a stored input was changed.
    """
    code = {name: _located(value, folders) for name, value in tables.items() if name in _TABLES}
    return {**tables, **code, **{name: with_input(tables[name], folders) for name in _INPUTS if name in tables}}


def with_input(table: Any, folders: Sequence[Path]) -> Any:
    """The table of data or a model, with the place of a stored input in one of ``folders``.

    Raises Refused: the file was changed.
    """
    if not isinstance(table, Mapping) or not isinstance(table.get("path"), str):
        return table
    return {**table, "path": stored_input(table["path"], folders)}


def _located(value: Any, folders: Sequence[Path]) -> Any:
    if isinstance(value, list | tuple):
        return [_located(one, folders) for one in value]
    if not isinstance(value, Mapping):
        return value
    if is_code(value) and isinstance(value["path"], str):
        digest = value.get("sha256")
        copies = [code_folder(folder) / digest for folder in folders] if isinstance(digest, str) else []
        return {**value, "path": CodePath(value["path"], (*copies, *folders))}
    return {name: _located(one, folders) for name, one in value.items()}


def code_files(spec: Spec) -> dict[str, CodeFile]:
    """The user's own entries of a study, by path."""
    return {entry.code.path: entry.code for entry in _entries(spec) if entry.code is not None}


def _entries(spec: Spec) -> Iterator[Entry]:
    for choices in spec.vary.values():
        for choice in choices:
            yield from choice.defences
            yield from () if choice.algorithm is None else (choice.algorithm,)
    yield from (attack.attack for attack in spec.attacks)
    yield from (corruption.corruption for corruption in spec.corruptions)


def store_code(spec: Spec, folder: Path) -> None:
    """Copy the code of own entries into the study's ``folder``; a class of a notebook has no file."""
    for code in code_files(spec).values():
        for name, data in code.files.items():
            copy = code_folder(folder) / code.sha256 / name
            if not copy.is_file() or copy.read_bytes() != data:
                copy.parent.mkdir(parents=True, exist_ok=True)
                replace(copy, data)


def pinned(tables: Mapping[str, Any], spec: Spec) -> Mapping[str, Any]:
    """``tables`` with the digest of each own entry, so that another process takes the same code.

    Raises Refused: a class of a notebook, which no other process has.
    """
    files = code_files(spec)
    if isinstance(spec.model, StoredModule) and spec.model.in_notebook():
        raise _only_here(spec.model.custom_classes()[0], "model")
    return {name: _pinned(value, files, name) if name in _TABLES else value for name, value in tables.items()}


def _pinned(value: Any, files: Mapping[str, CodeFile], where: str) -> Any:
    if isinstance(value, list | tuple):
        return [_pinned(one, files, f"{where}[{i}]") for i, one in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    if is_code(value) and value["path"] in files:
        code = files[value["path"]]
        if code.module == NOTEBOOK:
            raise _only_here(code.path, where)
        return {**value, "sha256": code.sha256}
    return {name: _pinned(one, files, place(where, name)) for name, one in value.items()}


def _only_here(name: str, where: str) -> Refused:
    reason = f"{name} is of this notebook or script, which no other process has"
    return Refused(
        reason, remedy='put it into a file beside the study, or run it here: executor = "serial"', where=where
    )


def refuse_code(tables: Mapping[str, Any], who: str) -> None:
    """Refuse own entries among ``tables``, none of which is imported for it.

    Raises Refused: there is one.
    """
    if isinstance(model := tables.get("model"), Mapping) and model.get("kind") == StoredModule.kind():
        reason = f"the model was handed over as an object, whose file {who} does not have"
        raise Refused(reason, remedy="name it by a path that every machine can import", where="model")
    for name in _TABLES:
        for path in _paths(tables.get(name)):
            reason = f"{path!r:.80} is a file of the study's author, and {who} runs installed code only"
            raise Refused(reason, remedy="install it as a package on every machine", where=name)


def _paths(value: object) -> Iterator[object]:
    if isinstance(value, list | tuple):
        for one in value:
            yield from _paths(one)
    elif isinstance(value, Mapping):
        if is_code(value):
            yield value["path"]
        for one in value.values():
            yield from _paths(one)
