"""A user's own entry, in a file beside the study: found, hashed, imported, and blamed for what it raises.

    path = "my_attack:MIFGSM"       the class MIFGSM of my_attack.py
    allow-code = true               importing it runs it

Its digest is SHA-256 over the file and over what it imports from its own folder, so an edited attack is run again.
Nothing is taken from Python's cache of compiled files, whose times are too coarse to notice a quick edit.  A class of a
notebook or script, ``__main__``, is hashed by its source and by what of ``__main__`` it uses.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from .code_blame import import_refusal
from .errors import Refused
from .files import read_bytes
from .live_source import live_source

__all__ = ["NOTEBOOK", "CodeFile", "code_file"]

NOTEBOOK = "__main__"
"""The module of what is defined in a notebook or in the script that runs."""
_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_MOST = 1 << 20
"""Bytes of one file of code."""


@dataclass(frozen=True)
class CodeFile:
    """The class ``name`` of ``module``, which is found below the folder ``root``; of a notebook there is none."""

    module: str
    name: str
    root: Path | None

    @property
    def path(self) -> str:
        """``MODULE:NAME``, as a study names it."""
        return f"{self.module}:{self.name}"

    @property
    def file(self) -> Path | None:
        """Where it is; None in a notebook."""
        return None if self.root is None else _below(self.root, self.module)

    @property
    def label(self) -> str:
        """Its name in messages."""
        return "the notebook" if self.file is None else self.file.name

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The file and what it imports from its own folder, by path below ``root``; of installed code itself alone."""
        if self.root is None or self.file is None:
            return {}
        follow = not _is_installed(self.root)
        contents: dict[str, bytes] = {}
        waiting = [self.file]
        while waiting:
            file = waiting.pop()
            name = file.relative_to(self.root).as_posix()
            if name not in contents:
                contents[name] = read_bytes(file, _MOST)
                waiting += _imports(contents[name], self.root) if follow else []
        return contents

    @cached_property
    def sha256(self) -> str:
        """The digest of its code."""
        sha = hashlib.sha256()
        if self.root is None:
            sha.update(live_source(_live(self)).encode())
        for name in sorted(self.files):
            sha.update(f"{name}\0{len(self.files[name])}\0".encode() + self.files[name])
        return sha.hexdigest()

    def load(self) -> type:
        """The class.

        Raises Refused: the file cannot be imported, or has no such class; by its name and line.
        """
        kind = _live(self) if self.root is None else getattr(_imported(self), self.name, None)
        if not isinstance(kind, type):
            reason = f"{self.label} defines no class {self.name}"
            raise Refused(reason, remedy='write path = "FILE:CLASS", without .py')
        return kind


def code_file(path: str, folders: Sequence[Path]) -> CodeFile:
    """What ``MODULE:CLASS`` names, looked for in ``folders`` and then where Python imports from.

    Raises Refused: it is no such path, or there is no such module.
    """
    if not _PATH.fullmatch(path):
        raise Refused(f"{path[:80]!r} names no class in a file", remedy='write path = "my_attack:MyAttack"')
    module, _, name = path.partition(":")
    if module == NOTEBOOK:
        return CodeFile(module, name, None)
    for folder in folders:
        if _below(folder, module).is_file():
            return CodeFile(module, name, folder.resolve())
    file = _known_to_python(module)
    if file is None:
        places = ", ".join(dict.fromkeys(str(folder) for folder in folders))
        reason = f"there is no {module.replace('.', '/')}.py in {places}, nor a module {module} where Python looks"
        raise Refused(reason, remedy="put the file beside the study")
    return CodeFile(module, name, file.resolve().parents[module.count(".")])


def _below(folder: Path, module: str) -> Path:
    return folder / f"{module.replace('.', '/')}.py"


def _known_to_python(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _imports(code: bytes, root: Path) -> list[Path]:
    """The files below ``root`` that ``code`` imports."""
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError):  # told when it is imported
        return []
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    parts = [name.split(".")[: depth + 1] for name in names for depth in range(name.count(".") + 1)]
    places = [root.joinpath(*part) for part in parts]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return [file for file in dict.fromkeys(files) if file.is_file()]


def _is_installed(folder: Path) -> bool:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return any(folder.is_relative_to(Path(sysconfig.get_path(name)).resolve()) for name in names)


def _live(code: CodeFile) -> type:
    kind = getattr(sys.modules[NOTEBOOK], code.name, None)
    if not isinstance(kind, type):
        reason = f"{code.path} is a class of another process's notebook or script, which is not here"
        raise Refused(reason, remedy="put the class into a file beside the study")
    return kind


class _Uncached(SourceFileLoader):
    """Compiles the file as it is now."""

    def get_code(self, fullname: str) -> CodeType:
        """From its source."""
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _imported(code: CodeFile) -> ModuleType:
    """The module under a name that holds its digest, and ends as it did: the kind of a class comes from there."""
    name = f"code_{code.sha256[:16]}.{code.module.rpartition('.')[2]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = ModuleSpec(name, _Uncached(name, str(code.file)), origin=str(code.file))
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importable(code):
            module.__loader__.exec_module(module)  # type: ignore[union-attr]
    except KeyboardInterrupt:
        del sys.modules[name]
        raise
    except BaseException as error:  # anyone's code
        del sys.modules[name]
        raise import_refusal(error, code.file or Path()) from error
    return module


@contextmanager
def _importable(code: CodeFile) -> Iterator[None]:
    """What the file imports from its own folder is found there, and afresh; what it draws has a stream of its own."""
    from .random import Stream, scoped  # torch, which listing entries does without

    assert code.root is not None
    names = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in code.files}
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(code.root))
    try:
        with scoped(Stream(0, ("import", code.module))):
            yield
    finally:
        sys.path.remove(str(code.root))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)
