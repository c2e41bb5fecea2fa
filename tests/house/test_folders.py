"""No circle of imports among the folders of the source, and a planted one is named with the line that closes it."""

from __future__ import annotations

import pytest

import folders
import house

SOURCE = house.ROOT / "src" / "consilium"


def planted(root, **modules):
    """``package__module=text`` below ``root/top``, and the complaints about them."""
    for name, text in modules.items():
        path = root.joinpath("top", *name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(folders.folder_cycles(sorted(root.rglob("*.py")), root / "top", ()))


def test_no_folder_leads_back_to_itself():
    assert list(folders.folder_cycles(sorted(SOURCE.rglob("*.py")), SOURCE)) == []


@pytest.mark.parametrize("room", ["study", "federate", "deploy", "report"])
def test_the_rooms_with_packages_are_among_those_looked_at(room):
    imports = folders.folder_imports(sorted(SOURCE.rglob("*.py")), SOURCE)
    assert sum(name.startswith(f"consilium.{room}.") for name in imports) >= 3


@pytest.mark.parametrize(
    "back",
    [
        "import top.one.a",
        "from top.one import a",
        "from top.one.a import name",
        "from ..one.a import name",
        "from .. import one",
        "def f():\n    from ..one.a import name",
    ],
)
def test_a_planted_circle_is_named_by_both_lines(tmp_path, back):
    complaints = planted(tmp_path, one__a="from ..two.b import name", two__b=back)
    assert len(complaints) == 2
    assert "one/a.py:1: top.one imports top.two, which leads back to top.one" in complaints[0]


def test_a_folder_and_the_one_inside_it_are_two(tmp_path):
    inside = planted(tmp_path / "in", one__a="from .deep.b import name", one__deep__b="from ..c import n", one__c="")
    assert len(inside) == 2
    down = planted(tmp_path / "down", one__a="from .deep.b import name", one__deep__b="")
    assert down == planted(tmp_path / "up", one__a="", one__deep__b="from ..a import name") == []


def test_a_circle_of_three_is_one_too(tmp_path):
    assert (
        len(planted(tmp_path, one__a="import top.two.b", two__b="import top.three.c", three__c="import top.one.a")) == 3
    )


def test_an_excuse_that_is_not_needed_is_named(tmp_path):
    (tmp_path / "a.py").write_text("")
    complaints = folders.folder_cycles([tmp_path / "a.py"], tmp_path, [frozenset({"top.one", "top.two"})])
    assert "top.one and top.two are on no circle any more" in next(complaints)
