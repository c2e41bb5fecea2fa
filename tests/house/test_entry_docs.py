"""Every entry says in one line what it is, and where it comes from."""

import dataclasses

import pytest

from consilium.core.catalogue import ROOMS, Card, cards, load_entry
from consilium.core.parameters import parameters


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


def unexplained(card):
    """Parameters without a sentence of meaning, or with a type that only a programmer can read."""
    for one in parameters(card):
        if not one.meaning or not (one.meaning[0].isupper() or one.meaning[0] == "`") or one.meaning[-1] not in ".)":
            yield f"{one.name} has no sentence of meaning below it: {one.meaning!r}"
        if not one.type or set(one.type) & set("[]()"):
            yield f"the type of {one.name} is not in words: {one.type!r}"


@pytest.mark.parametrize("card", cards(), ids=lambda card: f"{card.room}/{card.kind}")
def test_every_parameter_is_explained(card):
    assert list(unexplained(card)) == []


@pytest.mark.parametrize("card", cards(), ids=lambda card: f"{card.room}/{card.kind}")
def test_its_parameters_are_those_of_the_class(card):
    fields = [field.name.replace("_", "-") for field in dataclasses.fields(load_entry(card))]
    assert sorted(one.name for one in parameters(card)) == sorted(fields)


def test_a_bare_entry_is_found():
    bare = Card("x", "attack/evasion", "evasion", "", "", {}, "m", "X")
    assert list(gaps(bare)) == ["no docstring", "no line 'Source: ...'"]
    assert list(gaps(dataclasses.replace(bare, doc="A sentence.", source="a paper"))) == []
