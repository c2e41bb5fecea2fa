"""The catalogue: what a study may name.  One entry = one file; there is no list to edit.

A room is a folder of entries.  The catalogue reads each file by ``ast`` (docstring, source, knobs with their literal
defaults) and imports it only when it is used, so listing needs no torch.  Files whose name starts with an underscore
are not entries.  Installed plugins join through entry points of the group ``consilium.<room>``, with dots for slashes
(``consilium.attack.evasion``): the point's name is the kind and its value the module.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .class_source import base_classes
from .code_blame import import_refusal
from .entry import Entry
from .errors import Refused
from .plain import Json

__all__ = ["REQUIRED", "ROOMS", "Card", "cards", "find", "load_entry", "nearest"]

ROOMS: dict[str, str] = {
    "data/sources": "source",
    "data/partitions": "partition",
    "learn/models": "model",
    "learn/tasks": "task",
    "federate/algorithms": "algorithm",
    "attack/evasion": "evasion",
    "attack/poisoning": "poisoning",
    "attack/membership": "membership",
    "attack/attribute": "attribute",
    "attack/reconstruction": "reconstruction",
    "attack/extraction": "extraction",
    "attack/linkage": "linkage",
    "attack/shift": "shift",
    "defend/data": "data",
    "defend/training": "training",
    "defend/update": "update",
    "defend/merge": "merge",
    "defend/model": "model",
    "defend/answer": "answer",
    "defend/detection": "detection",
}
"""Room -> the moment (of a defence), the aim (of an attack) or the role of its entries."""

_PLUGIN = "A kind of a plugin needs its package installed"
_MOST_NAMED, _NEAR, _ALIKE = 40, 0.2, 0.51
REQUIRED = "required"
"""The default listed for a knob that has none."""


@dataclass(frozen=True)
class Card:
    """What is known of an entry without importing it.  A knob without default has the value ``"required"``.

    ``reading`` is its author's advice on reading its figures: the paragraph that starts with ``Reading:``.
    """

    kind: str
    room: str
    role: str
    doc: str
    source: str
    knobs: dict[str, Json]
    module: str
    name: str
    reading: str = ""
    file: Path = Path()

    def to_json(self) -> dict[str, Json]:
        """Plain JSON: kind, room, role (moment or aim), doc, source, reading, knobs."""
        return {
            "kind": self.kind,
            "room": self.room,
            "role": self.role,
            "doc": self.doc,
            "source": self.source,
            "reading": self.reading,
            "knobs": self.knobs,
        }


def cards(room: str | None = None) -> tuple[Card, ...]:
    """Every entry, or those of one room, by kind."""
    rooms = ROOMS if room is None else {room: ROOMS[room]}
    return tuple(card for name in rooms for card in _room(name))


def find(kind: str, *rooms: str) -> Card:
    """The card of ``kind`` in one of ``rooms``; refused by name with the nearest ones offered.

    Raises Refused: no entry of this kind in ``rooms``; the nearest kinds are offered.
    """
    known = [card for room in rooms for card in _room(room)]
    for card in known:
        if card.kind == kind:
            return card
    roles = sorted({card.role for card in known} or {ROOMS[room] for room in rooms})  # of rooms that have entries
    what = " or ".join(roles) if len(roles) <= 6 else "catalogue"
    remedy = nearest(kind, [card.kind for card in known])
    stop = "" if remedy.endswith("?") else "."
    raise Refused(f"unknown {what} kind {kind!r}", remedy=f"{remedy}{stop} {_PLUGIN}")


def nearest(word: str, known: list[str]) -> str:
    """A remedy that offers the nearest known names, or all of them if they are few."""
    close = _alike(word, known)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    if len(known) > _MOST_NAMED:
        return f"there are {len(known)}: `consilium list` names them"
    return "known are " + ", ".join(sorted(known)) if known else "none is installed"


def _alike(word: str, known: list[str]) -> list[str]:
    """At most three: the name that differs in dashes and capitals only, or those about as near as the nearest.

    What a name begins with is near it.
    """
    same = [name for name in known if _letters(name) == _letters(word)]
    longer = [name for name in known if len(word) > 1 and _letters(name).startswith(_letters(word))][:3]
    close = same or difflib.get_close_matches(word, known, n=3, cutoff=_ALIKE) or longer
    ratios = [difflib.SequenceMatcher(None, word, name).ratio() for name in close]
    return [name for name, ratio in zip(close, ratios, strict=True) if ratio > max(ratios) - _NEAR]


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def load_entry(card: Card) -> type[Entry]:
    """Import the entry's class.

    Raises Refused: its file cannot be imported; by the file's name and line.
    """
    try:
        module = importlib.import_module(card.module)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # a plugin's file may raise anything
        raise import_refusal(error, card.file) from error
    entry: type[Entry] = getattr(module, card.name)
    return entry


@cache
def _room(room: str) -> tuple[Card, ...]:
    entries = {card.kind: card for card in _files(room)}
    for point in importlib.metadata.entry_points(group="consilium." + room.replace("/", ".")):
        entries[point.name] = _read(_plugin(point), room, point.value, point.name)
    return tuple(entries[kind] for kind in sorted(entries))


def _plugin(point: importlib.metadata.EntryPoint) -> Path:
    """The file behind an installed plugin, found without importing it (its parent packages are)."""
    try:
        spec = importlib.util.find_spec(point.value)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise Refused(
            f"plugin {point.name} of {point.group} names the module {point.value!r}, which is not installed",
            remedy="install it again, or uninstall the package that names it",
        )
    return Path(spec.origin)


def _files(room: str) -> Iterator[Card]:
    folder = Path(__file__).parent.parent / room
    for path in sorted(folder.glob("*.py")):
        if not path.name.startswith("_"):
            module = f"consilium.{room.replace('/', '.')}.{path.stem}"
            yield _read(path, room, module, path.stem.replace("_", "-"))


def _read(path: Path, room: str, module: str, kind: str) -> Card:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=path.name)
    except (SyntaxError, ValueError) as error:
        raise Refused(f"{path.name} cannot be read as Python: {error}", where=str(path)) from error
    node = _exported(tree, path)
    doc = ast.get_docstring(node) or ""
    text = (ast.get_docstring(tree) or "") + "\n\n" + doc
    source, reading = _paragraph(text, "Source:"), _paragraph(text, "Reading:")
    knobs = _inherited(node, tree, module)
    return Card(kind, room, ROOMS[room], doc.split("\n", 1)[0], source, knobs, module, node.name, reading, path)


def _paragraph(text: str, head: str) -> str:
    """The rest of the paragraph that starts with ``head``."""
    _, _, rest = f"\n{text}".partition(f"\n{head}")
    return " ".join(rest.partition("\n\n")[0].split())


def _exported(tree: ast.Module, path: Path) -> ast.ClassDef:
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names = ast.literal_eval(node.value)
            if len(names) == 1 and names[0] in classes:
                return classes[names[0]]
    raise Refused(
        f"{path.name} is not an entry: __all__ must name exactly one class of this file",
        remedy="one entry, one file; start the file's name with an underscore if it is not an entry",
        where=str(path),
    )


def _inherited(node: ast.ClassDef, tree: ast.Module, module: str) -> dict[str, Json]:
    """Its own knobs, then those of its base classes that it does not set anew."""
    knobs = _knobs(node)
    for base, _, _ in base_classes(node, tree, module):
        knobs = {**knobs, **{name: default for name, default in _knobs(base).items() if name not in knobs}}
    return knobs


def _knobs(node: ast.ClassDef) -> dict[str, Json]:
    knobs: dict[str, Json] = {}
    for item in node.body:
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        if ast.unparse(item.annotation).partition("[")[0] in ("ClassVar", "KW_ONLY"):
            continue
        default = REQUIRED if item.value is None else _literal(item.value)
        knobs[item.target.id.replace("_", "-")] = default
    return knobs


def _literal(value: ast.expr) -> Any:
    factories: dict[str, Json] = {"field(default_factory=dict)": {}, "field(default_factory=list)": []}
    if ast.unparse(value) in factories:
        return factories[ast.unparse(value)]
    try:
        return ast.literal_eval(value)
    except ValueError:
        return ast.unparse(value)
