"""What a shell offers for the word that is being typed: study files, kinds, rooms, folders of studies and of cells.

Only names of files are read, and the catalogue without importing its entries: completion must answer at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..core.catalogue import ROOMS, cards
from ..core.errors import Refused

__all__ = ["folders", "kinds_and_folders", "rooms", "studies"]


def studies(incomplete: str) -> list[str]:
    """TOML files that begin so, and folders on the way to one."""
    return list(_paths(incomplete, lambda path: path.suffix == ".toml"))


def folders(incomplete: str) -> list[str]:
    """Folders that begin so."""
    return list(_paths(incomplete, lambda _: False))


def kinds_and_folders(incomplete: str) -> list[str]:
    """Kinds of the catalogue that begin so, then folders."""
    return [*_kinds(incomplete), *folders(incomplete)]


def rooms(incomplete: str) -> list[str]:
    """Rooms of the catalogue that begin so, and what stands before their slash."""
    names = dict.fromkeys(name for room in ROOMS for name in (room.partition("/")[0], room))
    return [name for name in names if name.startswith(incomplete)]


def _kinds(incomplete: str) -> list[str]:
    try:
        return sorted({card.kind for card in cards() if card.kind.startswith(incomplete)})
    except Refused:  # a broken plugin is reported by the command, not while one types
        return []


def _paths(incomplete: str, wanted: Callable[[Path], bool]) -> Iterator[str]:
    """The folders, with a slash, and the wanted files beside what was typed."""
    home, slash, start = incomplete.rpartition("/")
    try:
        inside = sorted(Path(f"{home}{slash}" or ".").expanduser().iterdir())
    except OSError:
        return
    for path in inside:
        if path.name.startswith(start) and (start or not path.name.startswith(".")):
            if path.is_dir():
                yield f"{home}{slash}{path.name}/"
            elif wanted(path):
                yield f"{home}{slash}{path.name}"
