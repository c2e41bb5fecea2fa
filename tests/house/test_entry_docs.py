"""Every entry says in one line what it is, and where it comes from."""

import dataclasses

import pytest

from consilium.core.catalogue import ROOMS, Card, cards


def gaps(card):
    if not card.doc.strip():
        yield "no docstring"
    elif not card.doc[0].isupper() or not card.doc.rstrip().endswith((".", ")", ":")):
        yield f"its first line is not a sentence: {card.doc!r}"
    if len(card.doc) > 120:
        yield "its first line is too long for a table"
    if not card.source:
        yield "no line 'Source: ...'"
    if card.role != ROOMS[card.room]:
        yield "its role is not that of its room"


@pytest.mark.parametrize("card", cards(), ids=lambda card: f"{card.room}/{card.kind}")
def test_the_entry_is_documented(card):
    assert list(gaps(card)) == []


def test_a_bare_entry_is_found():
    bare = Card("x", "attack/evasion", "evasion", "", "", {}, "m", "X")
    assert list(gaps(bare)) == ["no docstring", "no line 'Source: ...'"]
    assert list(gaps(dataclasses.replace(bare, doc="A sentence.", source="a paper"))) == []
