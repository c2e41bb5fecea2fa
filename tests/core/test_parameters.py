"""Meaning, type, default, allowed values and range of an entry's parameters, without importing it."""

import sys

import pytest

from consilium.core.catalogue import Card, find
from consilium.core.listing import card_text, values_text
from consilium.core.parameters import Parameter, parameters

BASE = """
from dataclasses import dataclass
from typing import Literal
from consilium.core.entry import check
Colour = Literal["red", "blue"]
@dataclass
class Base:
    def __post_init__(self):
        check(self.rate > 0, "rate", self.rate, "above 0")
"""
ENTRY = """
from dataclasses import dataclass, field
from typing import Any
from consilium.core.entry import check
from .planted_base import Base, Colour
raise SystemError("an entry is not imported to be looked up")
class Planted(Base):
    \'\'\'Planted.\'\'\'
    rate: float
    \'\'\'How fast,
    in steps.\'\'\'
    colour: Colour | None = None
    \'\'\'Which one.\'\'\'
    words: tuple[str, ...] = ()
    first: int | None = 1
    table: dict[str, Any] = field(default_factory=dict)
    \'\'\'A table.\'\'\'
    def __post_init__(self):
        super().__post_init__()
        for name in ("first", "words"):
            check(bool(getattr(self, name)), name, 0, "not empty")
        check(self.first, "first", self.first, f"of {self.rate}")
"""


@pytest.fixture
def planted(tmp_path, monkeypatch):
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "planted_base.py").write_text(BASE)
    (package / "entry.py").write_text(ENTRY)
    monkeypatch.syspath_prepend(tmp_path)
    knobs = {"rate": "required", "colour": None, "words": [], "first": 1, "table": {}}
    yield Card("entry", "attack/evasion", "evasion", "Planted.", "none", knobs, "planted.entry", "Planted")
    sys.modules.pop("planted", None)


def test_a_planted_entry_is_read(planted):
    rate, colour, words, first, table = parameters(planted)
    assert rate == Parameter("rate", "How fast, in steps.", "number", "required", (), "above 0")
    assert colour == Parameter("colour", "Which one.", "text", None, ("red", "blue"), "")
    assert words == Parameter("words", "", "list of texts", [], (), "not empty")
    assert (first.type, first.range, first.default) == ("whole number", "not empty", 1)
    assert (table.type, table.meaning, table.default) == ("table", "A table.", {})


def test_a_planted_entry_is_shown(planted):
    shown = card_text(planted).splitlines()
    assert "  rate  (must be given)   number, above 0" in shown and "      How fast, in steps." in shown
    assert '  colour  (left out)   "red" or "blue"' in shown


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        ("pgd", "radius", "a number above 0"),
        ("pgd", "norm", '"linf" or "l2" or "l1"'),
        ("fed-adam", "lr", "a learning rate above 0 and below 100"),
        ("fed-adam", "beta1", "number, 0 to 1, 1 excluded"),
        ("dp-sgd", "clip", "a positive number, 1e-9 to 1e9"),
        ("table", "drop", "list of texts"),
    ],
)
def test_the_range_is_that_of_the_constructor(kind, name, values):
    rooms = ("attack/evasion", "federate/algorithms", "defend/training", "data/sources")
    (one,) = (p for p in parameters(find(kind, *rooms)) if p.name == name)
    assert values_text(one).endswith(values)
