"""No two public classes or functions of one name, and none without a docstring."""

import pytest

import house

SOURCE = [path for path in house.tracked() if path.suffix == ".py" and house.ROOT / "src" in path.parents]


def test_every_public_name_has_one_place():
    assert list(house.clashes(SOURCE)) == []


def test_every_public_definition_has_a_docstring():
    assert list(house.undocumented(SOURCE)) == []


def written(folder, **modules):
    """One file for each keyword, with an ``__all__`` of what it defines."""
    paths = []
    for name, text in modules.items():
        paths.append(folder / f"{name}.py")
        paths[-1].write_text(text)
    return paths


def test_a_planted_clash_names_both_places(tmp_path):
    first = "__all__ = ['Card']\nclass Card: pass\n"
    second = "__all__ = ['Card']\n\n\ndef Card(): pass\n"
    complaint = next(house.clashes(written(tmp_path, first=first, second=second)))
    assert "second.py:4" in complaint and "first.py:2" in complaint


@pytest.mark.parametrize(
    "text",
    ["__all__ = ['main']\ndef main(): pass\n", "__all__ = []\ndef _check(): pass\n", "__all__ = ['B']\nB = 1\n"],
    ids=["programs", "private", "constants"],
)
def test_what_may_repeat(tmp_path, text):
    assert not list(house.clashes(written(tmp_path, one=text, two=text)))


def test_a_command_may_be_called_as_what_it_calls(tmp_path):
    text = "__all__ = ['join']\ndef join(): pass\n"
    (tmp_path / "cli").mkdir()
    assert not list(house.clashes([*written(tmp_path / "cli", commands=text), *written(tmp_path, site=text)]))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("def shown(): pass\n", "shown"),
        ("class A:\n    '''An A.'''\n    def method(self): pass\n", "method"),
        ("class A: pass\n", "A"),
    ],
)
def test_a_missing_docstring_is_found(tmp_path, text, name):
    assert f"{name} has no docstring" in next(house.undocumented(written(tmp_path, one=text)))


@pytest.mark.parametrize(
    "text",
    ["def _hidden(): pass\n", "class _A:\n    def method(self): pass\n", "def f():\n    '''F.'''\n    def g(): pass\n"],
)
def test_the_private_and_the_nested_need_none(tmp_path, text):
    assert not list(house.undocumented(written(tmp_path, one=text)))
