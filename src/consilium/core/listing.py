"""Cards of the catalogue as text for people."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .catalogue import Card

__all__ = ["card_list", "card_text"]


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
    """An entry with its knobs and its source."""
    knobs = [f"  {name} = {value if value == 'required' else json.dumps(value)}" for name, value in card.knobs.items()]
    return "\n".join([f"{card.kind}  ({card.room})", card.doc, *knobs, f"Source: {card.source}"])
