"""No circle among folders: where one imports another, nothing of the other leads back, inside a function or out.

A reader who follows a call from folder to folder then only ever goes down.  The import linter holds the floors between
rooms and the layers inside some of them; this holds every folder, one inside another included.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

__all__ = ["EXCUSED", "folder_cycles", "folder_imports"]

EXCUSED = (
    frozenset({"consilium.learn.per_example", "consilium.learn.per_example.layers"}),  # a rule registers as it is read
    frozenset({"consilium.measure", "consilium.measure.confidence"}),  # intervals and units are of both
)
"""Circles that stand still; one that is gone is taken out."""

Imports = Mapping[str, Mapping[str, str]]
"""By folder the folders that it imports, each with a place where it does."""


def folder_cycles(files: Iterable[Path], source: Path, excused: Collection[frozenset[str]] = EXCUSED) -> Iterator[str]:
    """A complaint for each import of the modules below ``source`` that lies on a circle of folders."""
    imports, waiting = folder_imports(files, source), set(excused)
    pairs = [(folder, other, place) for folder, others in imports.items() for other, place in others.items()]
    for folder, other, place in sorted(pairs):
        if folder in _reached(imports, other):
            pair = frozenset({folder, other})
            if pair in excused:
                waiting.discard(pair)
            else:
                yield f"{place}: {folder} imports {other}, which leads back to {folder}; move what both need below both"
    for idle in waiting:
        yield f"{source}:1: {' and '.join(sorted(idle))} are on no circle any more; take them out of scripts/folders.py"


def folder_imports(files: Iterable[Path], source: Path) -> Imports:
    """What each folder below ``source`` imports; imports that only a type checker reads count too."""
    imports: dict[str, dict[str, str]] = {}
    for path in files:
        package = [source.name, *path.parent.relative_to(source).parts]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for module in _modules(node, package):
                other = _folder(source, module)
                if other is not None and other != ".".join(package):
                    imports.setdefault(".".join(package), {}).setdefault(other, f"{path}:{node.lineno}")  # type: ignore[attr-defined]
    return imports


def _modules(node: ast.AST, package: list[str]) -> list[list[str]]:
    """The full names that an import names, as parts: what is imported may itself be a module."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".") for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else []
        base = [*above, *(node.module.split(".") if node.module else [])]
        return [[*base, alias.name] for alias in node.names]
    return []


def _folder(source: Path, module: list[str]) -> str | None:
    """The folder that holds ``module``, or the module that ``module`` is a name of; None outside ``source``."""
    if module[0] != source.name:
        return None
    for end in range(len(module), 0, -1):
        path = source.joinpath(*module[1:end])
        if path.is_dir():
            return ".".join(module[:end])
        if path.with_suffix(".py").is_file():
            return ".".join(module[: end - 1])
    return None


def _reached(imports: Imports, folder: str) -> set[str]:
    """Every folder that ``folder`` leads to."""
    reached, waiting = set[str](), [folder]
    while waiting:
        for other in imports.get(waiting.pop(), {}):
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    return reached
