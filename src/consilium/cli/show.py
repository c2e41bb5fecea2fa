"""``consilium show``: an entry of the catalogue, a study's folder or a cell's, for people or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from ..core.catalogue import ROOMS, cards, find
from ..core.errors import Refused
from ..core.listing import card_text, entry_json
from ..core.terminal import visible
from .output import print_stderr

__all__ = ["is_folder", "show_entries", "show_folder"]


def is_folder(what: str) -> bool:
    """Whether ``what`` is a folder; a kind of the same name goes before one that holds no study and no cell."""
    folder = Path(what)
    marked = any((folder / name).is_file() for name in ("evidence.json", "study.json"))
    return marked or (folder.is_dir() and not any(card.kind == what for card in cards()))


def show_entries(kind: str, as_json: bool) -> None:
    """Every entry of this kind, with the meaning of its parameters."""
    entries = [card for card in cards() if card.kind == kind] or [find(kind, *ROOMS)]
    if as_json:
        print(json.dumps([entry_json(card) for card in entries], indent=1))
    else:
        print(visible("\n\n".join(map(card_text, entries))))


def show_folder(folder: Path, as_json: bool) -> None:
    """A study's or a cell's; as JSON, what is stored, as it is."""
    if (folder / "evidence.json").is_file():
        _show_cell(folder, as_json)
    elif (folder / "study.json").is_file():
        if as_json:
            print(json.dumps(_stored(folder / "study.json"), indent=1))
        else:
            from .folder_view import print_study

            print_study(folder)
    else:
        inside = sorted(path.parent for path in folder.glob("*/study.json"))
        names = ", ".join(path.name for path in inside[:5])
        remedy = (
            f"name one of the studies in it: {names}" if inside else "give OUT/STUDY, as a run prints it, or a kind"
        )
        raise Refused(f"{folder} is no folder of a study and none of a cell", remedy=remedy)


def _show_cell(folder: Path, as_json: bool) -> None:
    from ..report.load.seals import evidence_alerts
    from .folder_view import print_cell

    record = _stored(folder / "evidence.json")
    for line in evidence_alerts(folder, record):
        print_stderr(f"consilium: {folder / 'evidence.json'}: {line}")
    if as_json or not print_cell(folder):
        print(json.dumps(record, indent=1))


def _stored(path: Path) -> dict[str, object]:
    from ..study.store.store import read_stored

    return dict(read_stored(path) or {})
