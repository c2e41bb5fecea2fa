"""Cards of the catalogue as text for people."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .catalogue import REQUIRED, Card
from .parameters import Parameter, parameters
from .plain import Json

__all__ = ["card_list", "card_text", "entry_json", "values_text"]


def card_list(cards: Sequence[Card]) -> str:
    """One line an entry, under its room."""
    width = max((len(card.kind) for card in cards), default=0)
    lines: list[str] = []
    room = ""
    for card in cards:
        if card.room != room:
            room = card.room
            lines += ["", room] if lines else [room]
        lines.append(f"  {card.kind:<{width}}  {card.doc}")
    return "\n".join(lines)


def card_text(card: Card) -> str:
    """An entry with the meaning, type, default, allowed values and range of each parameter, and its source."""
    lines = [line for parameter in parameters(card) for line in _parameter_lines(parameter)]
    reading = [f"Reading: {card.reading}"] if card.reading else []
    return "\n".join([f"{card.kind}  ({card.room})", card.doc, *lines, *reading, f"Source: {card.source}"])


def entry_json(card: Card) -> dict[str, Json]:
    """A card with what each parameter means, as plain JSON."""
    return {**card.to_json(), "parameters": [parameter.to_json() for parameter in parameters(card)]}


def values_text(parameter: Parameter) -> str:
    """What may be written: the words, or the type with its range."""
    if parameter.allowed:
        return " or ".join(f'"{word}"' for word in parameter.allowed)
    if parameter.type == "number" and "number" in parameter.range:
        return parameter.range
    return ", ".join(part for part in (parameter.type, parameter.range) if part)


def _parameter_lines(parameter: Parameter) -> list[str]:
    default = {REQUIRED: "must be given", None: "left out"}.get(_hashable(parameter.default), "")
    head = (
        f"  {parameter.name} = {json.dumps(parameter.default)}" if not default else f"  {parameter.name}  ({default})"
    )
    return [f"{head}   {values_text(parameter)}", *([f"      {parameter.meaning}"] if parameter.meaning else [])]


def _hashable(value: Json) -> str | None:
    return value if isinstance(value, str) or value is None else ""
