"""The catalogue: read without importing, refused by name, joined by plugins."""

import importlib.metadata
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from consilium.core import catalogue
from consilium.core.catalogue import ROOMS, cards, find, load_entry, nearest
from consilium.core.entry import Entry
from consilium.core.errors import Refused

ENTRY = '''"""Idea.

Source: somebody 2020,
and another paper.

Reading: with
care.

More words.
"""
from dataclasses import dataclass, field
from typing import ClassVar

from consilium.core.entry import Entry

__all__ = ["Plain"]


@dataclass(frozen=True)
class Plain(Entry):
    """Does nothing at all."""

    threat: ClassVar[str] = "none"
    needed: int
    two_words: float = -0.5
    choice: tuple[int, ...] = (1, 2)
    computed: float = 8 / 255
    table: dict[str, int] = field(default_factory=dict)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty package laid out like consilium; what is written into attack/evasion is in the catalogue."""
    room = tmp_path / "attack" / "evasion"
    room.mkdir(parents=True)
    (tmp_path / "core").mkdir()
    monkeypatch.setattr(catalogue, "__file__", str(tmp_path / "core" / "catalogue.py"))
    catalogue._room.cache_clear()
    yield room
    catalogue._room.cache_clear()


def test_an_entry_is_read_from_its_file(folder):
    (folder / "plain_thing.py").write_text(ENTRY)
    (folder / "_base.py").write_text("raise RuntimeError")
    (card,) = cards("attack/evasion")
    assert (card.kind, card.role, card.doc) == ("plain-thing", "evasion", "Does nothing at all.")
    assert card.source == "somebody 2020, and another paper."
    assert card.knobs == {
        "needed": "required", "two-words": -0.5, "choice": (1, 2), "computed": "8 / 255", "table": {},
    }  # fmt: skip
    assert (card.module, card.name) == ("consilium.attack.evasion.plain_thing", "Plain")
    assert set(card.to_json()) == {"kind", "room", "role", "doc", "source", "reading", "knobs"}
    assert card.reading == "with care."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "__all__ must name exactly one class"),
        ('__all__ = ["A", "B"]\nclass A: pass\nclass B: pass\n', "__all__ must name exactly one class"),
        ('from x import A\n__all__ = ["A"]\n', "__all__ must name exactly one class of this file"),
        ("def broken(:\n", "cannot be read as Python: invalid syntax (broken.py, line 1)"),
    ],
)
def test_a_file_that_is_no_entry_is_refused_by_name(folder, text, said):
    (folder / "broken.py").write_text(text)
    with pytest.raises(Refused) as refusal:
        cards("attack/evasion")
    assert said in str(refusal.value) and "broken.py" in refusal.value.where and "\n" not in str(refusal.value)


def test_a_file_that_is_no_text_is_refused(folder):
    (folder / "broken.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Refused, match="cannot be read as Python"):
        cards("attack/evasion")


def test_an_unknown_kind_offers_the_nearest():
    with pytest.raises(Refused, match=r"unknown evasion kind 'tranfser'. Did you mean 'transfer'\? A kind of a plugin"):
        find("tranfser", "attack/evasion")
    with pytest.raises(Refused, match=r"unknown evasion or membership kind 'x'. Known are .*fgsm, .*loss-threshold, "):
        find("x", "attack/membership", "attack/evasion")
    assert find("loss-threshold", "attack/evasion", "attack/membership").room == "attack/membership"


def test_a_room_without_entries_is_not_named():
    with pytest.raises(Refused, match=r"^unknown evasion kind 'x'"):
        find("x", "attack/evasion", "attack/attribute", "attack/linkage")
    with pytest.raises(Refused, match=r"^unknown attribute kind 'x'\. None is installed"):
        find("x", "attack/attribute")


def test_nearest():
    assert nearest("epsilom", ["radius", "steps"]) == "known are radius, steps"
    assert nearest("dpsgd", ["dp-sgd", "median"]) == "did you mean 'dp-sgd'?"
    assert nearest("zzz", ["b", "a"]) == "known are a, b"
    assert nearest("zzz", []) == "none is installed"


def test_every_folder_of_a_side_is_a_room():
    """A folder that the catalogue does not know would hide its entries."""
    package = Path(catalogue.__file__).parent.parent
    sides = [path for side in ("attack", "defend") for path in (package / side).iterdir()]
    folders = {str(p.relative_to(package)) for p in sides if p.is_dir() and any(p.glob("[a-z]*.py"))}
    assert folders <= set(ROOMS) | {"defend/crypto"}


@pytest.mark.parametrize("card", cards(), ids=lambda c: f"{c.room}/{c.kind}")
def test_what_is_read_is_what_is_imported(card):
    entry = load_entry(card)
    assert issubclass(entry, Entry) and entry.kind() == card.kind


def test_every_kind_is_unique_in_its_room():
    names = [(card.room, card.kind) for card in cards()]
    assert len(names) == len(set(names)) and names == sorted(names, key=lambda n: (list(ROOMS).index(n[0]), n[1]))


def test_listing_imports_no_torch():
    code = "import sys; from consilium.core.catalogue import cards; n = len(cards()); print(n, 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600).stdout
    assert said.split() == [str(len(cards())), "False"]


def point(name, module):
    return importlib.metadata.EntryPoint(name, module, "consilium.attack.evasion")


@pytest.fixture
def plugins(monkeypatch):
    installed = []
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [p for p in installed if p.group == group]
    )  # fmt: skip
    catalogue._room.cache_clear()
    yield installed
    catalogue._room.cache_clear()


def test_a_plugin_joins_through_an_entry_point(plugins, tmp_path, monkeypatch):
    (tmp_path / "their_attack.py").write_text(ENTRY)
    monkeypatch.syspath_prepend(tmp_path)
    plugins.append(point("their-attack", "their_attack"))
    card = find("their-attack", "attack/evasion")
    assert "their_attack" not in sys.modules and card.doc == "Does nothing at all."
    assert load_entry(card).kind() == "their-attack"
    assert {c.kind for c in cards("attack/evasion")} >= {"pgd", "their-attack"}
    assert "their-attack" not in {c.kind for c in cards("attack/membership")}


@pytest.mark.parametrize("module", ["gone_module", "gone_package.module"])
def test_a_plugin_that_is_gone_is_refused_by_name(plugins, module):
    plugins.append(point("lost", module))
    with pytest.raises(Refused, match=f"plugin lost of consilium.attack.evasion names the module '{module}'"):
        cards("attack/evasion")


@pytest.mark.parametrize("card", cards(), ids=lambda c: f"{c.room}/{c.kind}")
def test_the_shown_defaults_are_the_real_ones(card):
    assert card.knobs == {f.name.replace("_", "-"): default(f) for f in fields(load_entry(card))}


def default(field):
    if field.default_factory is not MISSING:
        return field.default_factory()
    return "required" if field.default is MISSING else field.default
