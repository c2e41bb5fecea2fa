"""The Python reference says what the objects are, and names everything that the documentation imports."""

import ast
import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest

import consilium
import python_page
from consilium.core.catalogue import ROOMS

ROOT = Path(__file__).parents[2]
KNOWN = python_page.definitions()
NAMES = [name for _, _, names in python_page.GROUPS for name in names.split()]


def the(name):
    return getattr(importlib.import_module(KNOWN[name].home), name)


def call(name):
    """How the page calls it, without the line that names a class's bases; empty where a class takes nothing."""
    lines = python_page.signature(KNOWN[name], KNOWN).splitlines()
    return "\n".join(line for line in lines if not line.startswith("class "))


def parameters(name):
    """The names of the parameters, read out of the page's call."""
    inside = call(name).partition("(")[2].rpartition(")")[0]
    pieces = (piece.strip() for piece in python_page.split(inside.replace("\n", " ")))
    return [re.match(r"\**(\w*)", piece)[1] for piece in pieces if piece not in {"*", "/", ""}]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_where_the_page_says(name):
    thing = the(name)
    if inspect.isfunction(thing):
        assert parameters(name) == list(inspect.signature(thing).parameters)
    elif dataclasses.is_dataclass(thing):
        assert parameters(name) == [field.name for field in dataclasses.fields(thing) if field.init]


def test_no_name_stands_twice():
    assert len(NAMES) == len(set(NAMES))


def test_the_package_s_own_names_come_from_it():
    assert {KNOWN[name].home for name in consilium.__all__} == {"consilium"}
    assert set(consilium.__all__) <= set(NAMES)


def imported(text):
    """What the Python blocks of a page import from the package."""
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        for names in re.findall(r"^\s*from consilium[\w.]* import (.+)$", block, re.MULTILINE):
            yield from (name.split()[0] for name in names.strip("()").split(",") if name.strip())


def is_entry(name):
    """Whether a name is of an entry, which has a page of its own."""
    home = KNOWN[name].path
    return not home.stem.startswith("_") and home.parent.relative_to(ROOT / "src/consilium").as_posix() in ROOMS


def test_what_the_documentation_imports_is_on_the_page():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    wanted = {name for page in pages for name in imported(page.read_text(encoding="utf-8"))}
    assert "Study" in wanted
    assert sorted(name for name in wanted - set(NAMES) if name not in KNOWN or not is_entry(name)) == []


def test_signatures_are_split_outside_brackets():
    text = "a: dict[str, int], b: str = 'x, y', *, c=(1, 2)"
    assert python_page.split(text) == ["a: dict[str, int]", "b: str = 'x, y'", "*", "c=(1, 2)"]


def test_what_a_function_raises_is_read_from_it():
    text = "def f():\n    if x: raise errors.Refused('a')\n    raise Failed\n"
    assert python_page.raised(ast.parse(text).body[0]) == "`Failed` or `Refused`"
