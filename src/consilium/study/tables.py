"""From a table of a study file to a value, and from whatever is wrong with it to one line that names the place.

A place is written as in the file: ``attacks[1].step-size``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from consilium.core.catalogue import Card, find, load, nearest
from consilium.core.entry import Entry
from consilium.core.errors import ConsiliumError, Refused

__all__ = ["as_table", "card_of", "entry", "refuse_unknown", "value"]

T = TypeVar("T")
Table = Mapping[str, Any]


def as_table(raw: object, where: str) -> dict[str, Any]:
    """A table; a bare string stands for ``{ kind = "..." }`` and an entry for its configuration."""
    if isinstance(raw, str):
        return {"kind": raw}
    if isinstance(raw, Entry):
        return {k: v for k, v in raw.configuration().items() if v is not None}
    if not isinstance(raw, Mapping):
        raise Refused(f"expected a table, got {raw!r}", remedy='write { kind = "...", ... }', where=where)
    return dict(raw)


def card_of(table: Table, where: str, *rooms: str) -> Card:
    """The card of ``table``'s kind in one of ``rooms``."""
    kind = table.get("kind")
    if not isinstance(kind, str):
        raise Refused("no kind is given" if kind is None else f"kind {kind!r} is not a string", where=f"{where}.kind")
    try:
        return find(kind, *rooms)
    except Refused as error:
        raise error.at(f"{where}.kind") from None


def entry(table: Table, where: str, *rooms: str) -> Entry:
    """The entry that ``table`` configures."""
    card = card_of(table, where, *rooms)
    knobs = {k: v for k, v in table.items() if k != "kind"}
    refuse_unknown(knobs, card.knobs, where, card.kind)
    return value(load(card), knobs, where)


def refuse_unknown(given: Iterable[str], known: Iterable[str], where: str, what: str) -> None:
    """Refuse the first name in ``given`` that is not ``known``, offering the nearest."""
    names = list(known)
    for name in given:
        if name not in names:
            raise Refused(f"{what} has no knob {name!r}", remedy=nearest(name, names), where=f"{where}.{name}")


def value(made: type[T], knobs: Table, where: str) -> T:
    """``made(**knobs)`` with strict types; dashes stand for underscores."""
    fields = {k.replace("-", "_"): v for k, v in knobs.items()}
    try:
        return TypeAdapter(made).validate_json(json.dumps(fields, default=repr), strict=True)
    except ValidationError as error:
        raise _refusal(error, made, where) from None
    except ConsiliumError as error:
        raise error.at(where) if where else error from None


def _refusal(error: ValidationError, made: type, where: str) -> Refused:
    first = error.errors()[0]
    name = ".".join(str(part).replace("_", "-") for part in first["loc"])
    place = ".".join(part for part in (where, name) if part)
    if first["type"] in ("missing", "missing_argument"):
        return Refused("this knob is required", remedy="give it a value", where=place)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = [f.name.replace("_", "-") for f in dataclasses.fields(made)] if dataclasses.is_dataclass(made) else []
        return Refused(f"unknown knob {name!r}", remedy=nearest(name, known), where=place)
    got = first.get("input")
    message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return Refused(f"{got!r} is not {message}" if message != first["msg"] else f"{message} (got {got!r})", where=place)
