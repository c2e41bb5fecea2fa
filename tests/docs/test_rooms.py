"""Rooms and floors are stated once: pages that speak of them say what the contract and the docstrings say."""

import re

import pytest

import rooms

COUNT = re.compile(r"\b(\w+) rooms on (\w+) floors\b", re.IGNORECASE)
OUTSIDE = [*(rooms.ROOT / "docs").rglob("*.md"), rooms.ROOT / "README.md", rooms.ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", rooms.PAGES)
def test_the_page_is_fresh(page):
    text = (rooms.ROOT / page).read_text(encoding="utf-8")
    assert rooms.MARKS.search(text), f"{page} has lost its block"
    assert text == rooms.filled(page), "run ./scripts/docs"


def test_no_other_place_counts_them():
    for path in OUTSIDE:
        assert not COUNT.search(rooms.MARKS.sub("", path.read_text(encoding="utf-8"))), path


def test_every_package_of_the_source_is_a_room():
    packages = {path.parent.name for path in rooms.SOURCE.glob("*/__init__.py")}
    named = {room.name for room in rooms.rooms()}
    assert packages <= named
    assert all(room.meaning for room in rooms.rooms())
    assert min(room.floor for room in rooms.rooms()) == 0


@pytest.fixture
def tree(tmp_path):
    """A house of three rooms on two floors."""
    layers = (
        '[tool.importlinter]\n[[tool.importlinter.contracts]]\ntype = "layers"\nlayers = ["a.up", "a.left | a.right"]\n'
    )
    (tmp_path / "pyproject.toml").write_text(layers)
    for name in ("up", "left", "right"):
        folder = tmp_path / "src" / "consilium" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f'"""The room {name}.\n\nMore.\n"""\n')
    return tmp_path


def test_the_contract_decides_the_floors(tree):
    assert [(room.name, room.floor, room.meaning) for room in rooms.rooms(tree)] == [
        ("up", 1, "The room up"),
        ("left", 0, "The room left"),
        ("right", 0, "The room right"),
    ]
    assert rooms.block("list", root=tree) == "3 rooms on 2 floors, from the top: `up`, `left` and `right`.\n"


def test_a_page_that_has_drifted_is_seen(tree):
    (tree / "page.md").write_text(
        "Before\n<!-- list of rooms: written by scripts/docs -->\n4 rooms\n<!-- end -->\nafter\n"
    )
    text = rooms.filled("page.md", tree)
    assert "4 rooms" not in text and "3 rooms on 2 floors" in text
    assert text.startswith("Before\n") and text.endswith("<!-- end -->\nafter\n")
