"""Untyped dicts and casts become fewer, never more."""

import house

SOURCE = [path for path in house.tracked() if path.suffix == ".py" and house.ROOT / "src" in path.parents]


def test_there_are_no_more_than_there_were():
    assert list(house.loose(SOURCE)) == []


def test_one_more_is_refused(tmp_path):
    path = tmp_path / "planted.py"
    path.write_text(
        "import typing\ndef f(x: dict[str, Any]) -> dict[str, Any]:\n    return typing.cast(int, cast(str, x))\n"
    )
    assert list(house.loose([path], {"dict[str, Any]": 2, "cast": 2})) == []
    one, other = house.loose([path], {"dict[str, Any]": 1, "cast": 1})
    assert "2 times dict[str, Any]" in one and "2 times cast" in other
