"""Variables say what a value is, not what happened to it; and the list of files that do not yet only shrinks."""

import pytest

import house

SOURCE = [path for path in house.tracked() if path.suffix == ".py" and house.ROOT / "src" in path.parents]
PACKAGE = house.ROOT / "src" / "consilium"


def test_values_are_named_by_nouns():
    assert list(house.participles(SOURCE, PACKAGE)) == []


@pytest.mark.parametrize(
    "text",
    [
        "found = 1\n",
        "kept = 1\n",
        "def f(told): pass\n",
        "def f(*, held=0): pass\n",
        "g = lambda own: own\n",
        "x, (y, made) = z\n",
        "[said for said in x]\n",
        "for given in x: pass\n",
        "with open(x) as held: pass\n",
        "if (asked := x): pass\n",
        "try: pass\nexcept OSError as heard: pass\n",
    ],
)
def test_each_way_to_bind_is_seen(tmp_path, text):
    (tmp_path / "planted.py").write_text(text)
    assert "planted.py:" in next(house.participles([tmp_path / "planted.py"], tmp_path, ()))


@pytest.mark.parametrize(
    "text",
    ["class A:\n    given: int\n    told = 1\n", "x.found = 1\n", "def found(): pass\n", "f(held=1)\n", "print(own)\n"],
)
def test_fields_calls_and_uses_are_not_bindings(tmp_path, text):
    (tmp_path / "fine.py").write_text(text)
    assert not list(house.participles([tmp_path / "fine.py"], tmp_path, ()))


def test_a_listed_file_may_until_it_is_clean(tmp_path):
    path = tmp_path / "old.py"
    path.write_text("found = 1\n")
    assert not list(house.participles([path], tmp_path, ["old.py"]))
    path.write_text("findings = 1\n")
    assert "take old.py out" in next(house.participles([path], tmp_path, ["old.py"]))
    assert "gone.py" in next(house.participles([], tmp_path, ["gone.py"]))
