"""From a table of a study file to a value, and from whatever is wrong with it to one line that names the place.

A place is written as in the file: ``attacks[1].step-size``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from consilium.core.algorithm import Algorithm
from consilium.core.attack import Attack, Corruption
from consilium.core.catalogue import Card, cards, find, load_entry, nearest
from consilium.core.code_blame import import_refusal
from consilium.core.code_file import code_file
from consilium.core.defence import AnswerDefence, Defence, ModelDefence
from consilium.core.detection import Detector
from consilium.core.entry import Entry
from consilium.core.errors import ConsiliumError, Refused
from consilium.core.plain import Json
from consilium.core.task import Task
from consilium.data.partition import Partition
from consilium.data.source import Source
from consilium.learn.architecture import Architecture

__all__ = [
    "STRICT",
    "CodePath",
    "as_mapping",
    "as_sequence",
    "as_table",
    "card_of",
    "check_count",
    "check_length",
    "entry",
    "is_code",
    "place",
    "plain_name",
    "refuse_twice",
    "refuse_unknown",
    "shown",
    "tabled",
    "value",
]

T = TypeVar("T")
STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}
"""Of dataclasses that tables of a study are read into."""
_Table = Mapping[str, Any]
_MOST_SHOWN = 80
_DEEPEST = 32
_LONGEST_LABEL = 80
_REMEDIES = {
    "int_type": "write a whole number, such as 3",
    "float_type": "write a number, such as 0.5",
    "string_type": 'write a text in quotes, such as "a"',
    "bool_type": "write true or false",
    "dict_type": "write a table, such as { a = 1 }",
    "literal_error": "write one of those",
}
"""What to write where a value is of the wrong type, by pydantic's name of the error."""
_BASES: Mapping[str, type[Entry]] = {
    "data/sources": Source,
    "data/partitions": Partition,
    "learn/models": Architecture,
    "learn/tasks": Task,
    "federate/algorithms": Algorithm,
    "attack/poisoning": Corruption,
    "attack/membership": Attack,
    "attack/shift": Attack,
    "defend/model": ModelDefence,
    "defend/answer": AnswerDefence,
    "defend/detection": Detector,
}
"""Of what class the entries of a room are."""


@dataclasses.dataclass(frozen=True)
class CodePath:
    """``MODULE:CLASS`` of a user's own entry, and the folders in which its file is looked for first."""

    path: str
    folders: tuple[Path, ...]


def as_table(raw: object, where: str) -> dict[str, Json]:
    """A table; a bare string stands for ``{ kind = "..." }`` and an entry for its configuration.

    Raises Refused: ``raw`` is none of these.
    """
    if isinstance(raw, str):
        return {"kind": raw}
    if isinstance(raw, Entry):
        return tabled(raw)
    if not isinstance(raw, Mapping):
        raise Refused(f"expected a table, got {shown(raw)}", remedy='write { kind = "...", ... }', where=where)
    return dict(raw)


def as_mapping(raw: object, where: str) -> Mapping[str, Any]:
    """A table that names no kind.

    Raises Refused: ``raw`` is no table.
    """
    if not isinstance(raw, Mapping):
        raise Refused(f"expected a table, got {shown(raw)}", remedy=f"write [{where}]", where=where)
    return raw


def tabled(instance: Entry) -> dict[str, Json]:
    """The table that configures ``instance``: TOML has no null, so a knob that is None by default is left out.

    One of a user's own class, which runs already, is named by its path.
    """
    defaults = {f.name.replace("_", "-"): f.default for f in dataclasses.fields(instance)}
    table = {k: v for k, v in instance.configuration().items() if v is not None or defaults.get(k) is not None}
    kind = type(instance)
    if kind.code is None and (kind.is_builtin() or any(card.module == kind.__module__ for card in cards())):
        return table
    path = f"{kind.__module__}:{kind.__qualname__}" if kind.code is None else kind.code.path
    knobs = {k: v for k, v in table.items() if k not in ("kind", "path", "sha256")}
    return {"path": path, "allow-code": True, **knobs}


def is_code(table: _Table) -> bool:
    """Whether ``table`` names a class in a user's file, and no kind of the catalogue."""
    return "path" in table and ("kind" not in table or "sha256" in table)


def card_of(table: _Table, where: str, *rooms: str) -> Card:
    """The card of ``table``'s kind in one of ``rooms``.

    Raises Refused: no kind is given, or none of ``rooms`` has it.
    """
    kind = table.get("kind")
    if not isinstance(kind, str):
        reason = "no kind is given" if kind is None else f"kind {shown(kind)} is not a string"
        raise Refused(reason, remedy='write kind = "..."', where=f"{where}.kind")
    try:
        return find(kind[:_MOST_SHOWN], *rooms)
    except Refused as error:
        raise error.at(f"{where}.kind") from None


@overload
def entry(table: _Table, where: str, room: Literal["data/sources"], /) -> Source: ...
@overload
def entry(table: _Table, where: str, room: Literal["data/partitions"], /) -> Partition: ...
@overload
def entry(table: _Table, where: str, room: Literal["learn/models"], /) -> Architecture: ...
@overload
def entry(table: _Table, where: str, room: Literal["learn/tasks"], /) -> Task: ...
@overload
def entry(table: _Table, where: str, room: Literal["federate/algorithms"], /) -> Algorithm: ...
@overload
def entry(table: _Table, where: str, room: Literal["attack/membership"], /) -> Attack: ...
@overload
def entry(table: _Table, where: str, room: Literal["attack/poisoning"], /) -> Corruption: ...
@overload
def entry(table: _Table, where: str, room: Literal["defend/model"], /) -> ModelDefence: ...
@overload
def entry(table: _Table, where: str, room: Literal["defend/answer"], /) -> AnswerDefence: ...
@overload
def entry(table: _Table, where: str, /, *rooms: str) -> Entry: ...


def entry(table: _Table, where: str, /, *rooms: str) -> Entry:
    """The entry that ``table`` configures, of the class whose room it is in.

    Raises Refused: an unknown kind or knob, a value that does not fit, or a class of another room.
    """
    if is_code(table) and all(room.startswith(("attack/", "defend/", "federate/algorithms")) for room in rooms):
        return _entry_of_file(table, where, rooms)
    card = card_of(table, where, *rooms)
    knobs = {k: v for k, v in table.items() if k != "kind"}
    refuse_unknown(knobs, card.knobs, where, card.kind)
    instance, base = value(load_entry(card), knobs, where), _BASES.get(card.room, Entry)
    if not isinstance(instance, base):
        reason = f"{card.kind} stands in {card.room}, and its class {card.name} is no {base.__name__}"
        raise Refused(reason, remedy=f"derive {card.name} from {base.__name__}", where=where)
    return instance


def _entry_of_file(table: _Table, where: str, rooms: Sequence[str]) -> Entry:
    """The entry that ``table`` configures, of a class in a user's file."""
    raw = table["path"]
    named = raw if isinstance(raw, CodePath) else CodePath(raw if isinstance(raw, str) else shown(raw), ())
    if table.get("allow-code") is not True:
        reason = f"{named.path[:_MOST_SHOWN]!r} would run code that is not Consilium's"
        raise Refused(reason, remedy="set allow-code = true if you trust it", where=place(where, "allow-code"))
    try:
        code = code_file(named.path, (*named.folders, Path.cwd()))
        if table.get("sha256", code.sha256) != code.sha256:
            raise Refused(f"{code.label} is not the file that was used", remedy="put that version back")
        kind = _checked(code.load(), code.label, rooms)
    except Refused as error:
        raise error.at(place(where, "path")) from error.__cause__
    kind.code = code
    knobs = {k: v for k, v in table.items() if k not in ("kind", "path", "allow-code", "sha256")}
    refuse_unknown(knobs, [f.name.replace("_", "-") for f in dataclasses.fields(kind)], where, kind.kind())
    try:
        return value(kind, knobs, where)
    except ConsiliumError:
        raise
    except Exception as error:  # a user's class may raise anything
        raise import_refusal(error, code.file or Path(code.label)).at(where) from error


def _checked(kind: type, label: str, rooms: Sequence[str]) -> type[Entry]:
    """``kind``, a class of ``label``; refused where it is no entry of one of ``rooms``."""
    bases = tuple(dict.fromkeys(_base_of(room) for room in rooms))
    if not issubclass(kind, Entry) or not issubclass(kind, bases):
        names = " or ".join(base.__name__ for base in bases)
        raise Refused(f"{kind.__name__} in {label} is no {names}", remedy=f"derive it from {names}")
    if "__dataclass_params__" not in vars(kind):
        reason = f"{kind.__name__} in {label} is no dataclass, so its parameters cannot be read"
        raise Refused(reason, remedy="write @dataclass(frozen=True) above it")
    if kind.kind() in [card.kind for card in cards()]:
        reason = f"{label} makes {kind.kind()!r}, which Consilium has already"
        raise Refused(reason, remedy="give the file another name")
    return kind


def _base_of(room: str) -> type[Entry]:
    return _BASES.get(room, Attack if room.startswith("attack/") else Defence)


def refuse_unknown(knobs: Iterable[object], known: Iterable[str], where: str, what: str) -> None:
    """Refuse the first name in ``knobs`` that is not ``known``, offering the nearest.

    Raises Refused: a name is not ``known``.
    """
    names = list(known)
    for name in knobs:
        if name not in names:
            reason = f"{what} has no knob {shown(name)}"
            raise Refused(reason, remedy=_nearest_knob(str(name)[:_MOST_SHOWN], names), where=place(where, name))


def _nearest_knob(name: str, known: list[str]) -> str:
    return nearest(name, known) if known else "leave it out: there are no knobs here"


def refuse_twice(names: Sequence[str], where: str) -> None:
    """Refuse ``names`` of which two are the same.

    Raises Refused: two of them are.
    """
    again = [name for name, count in Counter(names).items() if count > 1]
    if again:
        raise Refused(
            f"two of them are called {again[0]!r}", remedy='give one another: name = "..."', where=f"{where}.name"
        )


def check_length(name: str, most: int, where: str) -> None:
    """Refuse a name that is too long.

    Raises Refused: ``name`` has more than ``most`` characters.
    """
    if len(name) > most:
        raise Refused(f"{shown(name)} has {len(name)} characters", remedy=f"use at most {most}", where=where)


def value(target: type[T], knobs: _Table, where: str) -> T:
    """``target(**knobs)`` with strict types; dashes stand for underscores."""
    fields = {k.replace("-", "_"): _plain(v, place(where, k)) for k, v in knobs.items()}
    kind: type = target
    try:
        valid: T = _adapter(kind).validate_json(json.dumps(fields), strict=True)
        return valid
    except ValidationError as error:
        raise _refusal(error, target, where) from None
    except ConsiliumError as error:
        raise error.at(where) if where else error from None


def place(where: str, name: object) -> str:
    """``where.name`` as it would be written in TOML, on one line."""
    word = str(name)
    word = word if re.fullmatch(r"[A-Za-z0-9_-]{1,80}", word) else json.dumps(word[:_MOST_SHOWN])
    return f"{where}.{word}" if where else word


def shown(raw: object) -> str:
    """A value as it stands in a message: one line, and short."""
    text = repr(raw)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _plain(raw: object, where: str, depth: int = 0) -> Any:
    """What JSON can say of ``raw``; refused where it can not."""
    if depth > _DEEPEST:
        raise Refused(f"this is more than {_DEEPEST} tables deep", remedy="make it flatter", where=where)
    if isinstance(raw, float) and not math.isfinite(raw):
        raise Refused(f"{raw!r} is not a finite number", remedy="give a finite one", where=where)
    if isinstance(raw, int) and not isinstance(raw, bool) and abs(raw) >= 2**63:
        raise Refused("this number has more than 63 bits", remedy="give a smaller one", where=where)
    if raw is None or isinstance(raw, str | bool | int | float):
        return raw
    if isinstance(raw, Mapping):
        return {str(k): _plain(v, place(where, k), depth + 1) for k, v in raw.items()}
    if isinstance(raw, list | tuple):
        return [_plain(v, f"{where}[{i}]", depth + 1) for i, v in enumerate(raw)]
    if isinstance(raw, Path):
        return str(raw)
    reason = f"a {type(raw).__name__} is no value of a study ({shown(raw)})"
    raise Refused(reason, remedy="give a text, a number, true or false, a list or a table", where=where)


def _telling(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """The first error; where a value may be of several types, that of the type which fits furthest."""
    place = errors[0]["loc"]
    at = next((k for k, part in enumerate(place) if _is_choice(part)), len(place))
    return max((one for one in errors if one["loc"][:at] == place[:at]), key=lambda one: len(one["loc"][at:]))


def _is_choice(part: int | str) -> bool:
    """Whether pydantic names with ``part`` one of several types, which is no place in a file."""
    return isinstance(part, str) and part.startswith("tuple[")


def _refusal(error: ValidationError, kind: type, where: str) -> Refused:
    first = _telling(error.errors(include_url=False, include_context=False))
    at = where
    for part in first["loc"]:
        if _is_choice(part):
            continue
        at = f"{at}[{part}]" if isinstance(part, int) else place(at, part.replace("_", "-"))
    name = str(first["loc"][-1]).replace("_", "-") if first["loc"] else ""
    if first["type"] in ("missing", "missing_argument"):
        return Refused("this knob is required", remedy="give it a value", where=at)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = [f.name.replace("_", "-") for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        return Refused(f"unknown knob {shown(name)}", remedy=_nearest_knob(name, known), where=at)
    text = shown(first.get("input"))
    if first["type"] == "tuple_type":
        return Refused(f"{text} is not a list", remedy=_as_list(kind, first), where=at)
    message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    reason = f"{text} is not {message}" if message != first["msg"] else f"{message} (got {text})"
    return Refused(reason, remedy=_REMEDIES.get(first["type"], "give a value of that kind"), where=at)


def _as_list(kind: type, wrong: ErrorDetails) -> str:
    """How to write a list: of the one text that was given, where the knob is a list of texts."""
    types = {f.name: str(f.type) for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    texts = len(wrong["loc"]) == 1 and types.get(str(wrong["loc"][0]), "").startswith(
        ("tuple[str, ...]", "tuple[str | ")
    )
    if texts and isinstance(wrong["input"], str):
        return f"write [{json.dumps(wrong['input'][:_MOST_SHOWN], ensure_ascii=False)}]"
    return "write a list, such as [0, 1]"


def plain_name(name: object, kind: str, where: str) -> str:
    """The ``name`` of a choice or an adversary, ``kind`` where there is none.

    Raises Refused: it is no name of letters, digits, dots and dashes.
    """
    if name is None:
        return kind
    if isinstance(name, str):
        check_length(name, _LONGEST_LABEL, f"{where}.name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == "none":
        raise Refused(f"{shown(name)} is no name", remedy="use letters, digits, dots, dashes", where=f"{where}.name")
    return name


def as_sequence(raw: object, where: str) -> Sequence[object]:
    """``raw``, a list.

    Raises Refused: it is something else.
    """
    if not isinstance(raw, (list, tuple)):
        raise Refused(f"expected a list, got {shown(raw)}", remedy="write [ ... ] or [[...]]", where=where)
    return raw


def check_count(raw: Sequence[object], most: int, where: str) -> None:
    """Refuse a list of more than ``most``.

    Raises Refused: it is longer.
    """
    if len(raw) > most:
        raise Refused(f"{len(raw)} are more than {most}", remedy="split the study", where=where)
