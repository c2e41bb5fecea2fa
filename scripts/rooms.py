"""Rooms and floors, stated once: the floors by the import linter's contract, what a room is for by its own docstring.

Pages that speak of them hold a block between two marks, which `./scripts/docs` writes and a test compares.
"""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MARKS", "PAGES", "ROOT", "SOURCE", "Room", "block", "filled", "rooms"]

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "consilium"
PAGES = ("docs/explanation/architecture.md", "CONTRIBUTING.md", "README.md")
MARKS = re.compile(r"(<!-- (\w+) of rooms: written by scripts/docs -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Room:
    """A package or module below ``consilium``: its floor (0 is the lowest), its meaning in a line, its packages."""

    name: str
    floor: int
    meaning: str
    inner: tuple[str, ...]


def rooms(root: Path = ROOT) -> tuple[Room, ...]:
    """Every room from the highest floor down, as the layers of the contract in pyproject.toml have them."""
    contract = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contract if one["type"] == "layers")
    return tuple(
        _room(root / "src" / "consilium", name.strip().rpartition(".")[2], len(layers) - 1 - height)
        for height, layer in enumerate(layers)
        for name in layer.split("|")
    )


def block(kind: str, up: str = "", root: Path = ROOT) -> str:
    """``table``: a row per floor, with links below ``up``; ``list``: the floors in one sentence."""
    everything = rooms(root)
    if kind == "list":
        floors = [
            " and ".join(f"`{room.name}`" for room in everything if room.floor == floor)
            for floor in _floors(everything)
        ]
        return textwrap.fill(f"{_count(everything)}, from the top: {', '.join(floors)}.", 120) + "\n"
    lines = [f"{_count(everything)}:\n", "| floor | room | what it is for | inside |", "|--:|---|---|---|"]
    for room in everything:
        inner = ", ".join(f"`{name}`" for name in room.inner)
        lines.append(f"| {room.floor} | [`{room.name}`]({up}{_path(room.name)}) | {room.meaning} | {inner} |")
    return "\n".join(lines) + "\n"


def filled(page: str, root: Path = ROOT) -> str:
    """The text of ``page`` with its blocks as the code has them now."""
    up = "../" * page.count("/") + "src/consilium/"
    text = (root / page).read_text(encoding="utf-8")
    return MARKS.sub(lambda match: match[1] + block(match[2], up, root) + match[3], text)


def _room(source: Path, name: str, floor: int) -> Room:
    folder = source / name
    meaning = _first_line(folder / "__init__.py" if folder.is_dir() else source / f"{name}.py")
    return Room(name, floor, meaning, tuple(sorted(_inner(folder))))


def _inner(folder: Path) -> Iterator[str]:
    """The packages in a room that hold more than their own docstring."""
    for package in folder.glob("*/__init__.py"):
        if any(path.name != "__init__.py" for path in package.parent.rglob("*.py")):
            yield package.parent.name


def _first_line(path: Path) -> str:
    line = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return " ".join(line.replace("``", "`").replace("|", "\\|").rstrip(".").split())


def _floors(everything: tuple[Room, ...]) -> list[int]:
    return sorted({room.floor for room in everything}, reverse=True)


def _count(everything: tuple[Room, ...]) -> str:
    return f"{len(everything)} rooms on {len(_floors(everything))} floors"


def _path(name: str) -> str:
    return name if (SOURCE / name).is_dir() else f"{name}.py"
