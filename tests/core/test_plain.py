"""JSON and TOML of anybody: read within bounds, or refused with the reason."""

import json

import pytest

from consilium.core.plain import json_object, json_text, member, numeric_member, read_json_lines, read_toml


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[" * 200_000, "nested too deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "more than 64 levels"),
        (b"[]", "holds a list"),
        (b"null", "NoneType"),
        (b'{"a": 1, "a": 2}', "'a' occurs twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 400 + b"}", "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too large"),
        (b'{"a": "\\ud800"}', "half a character"),
        (b'{"\\udfff": 1}', "half a character"),
        (b'{"a": "\xff"}', "byte 7 is no UTF-8"),
        (b"", "Expecting value"),
        (b'{"a": 1', "Expecting"),
    ],
)
def test_what_is_no_object_is_refused(data, why):
    with pytest.raises(ValueError, match=why):
        json_object(data)


def test_what_is_written_is_read_to_the_last_bit():
    data = {"a": [0.1, 1e-300, -0.0, 2**63, None, True, "\u03b5 \U0001f600 \\ud800"], "b": {}}
    text = json_text(data, indent=1)
    assert text == json.dumps(data, indent=1) and json_object(text.encode()) == data


def test_half_a_character_is_never_written():
    assert json_object(json_text({"out/\udcc3": ["\udcff", "\u03b5"]}).encode()) == {"out/?": ["?", "\u03b5"]}


def test_lines_that_cannot_be_read_are_told_from_the_others(tmp_path):
    path = tmp_path / "rounds.jsonl"
    path.write_bytes(b'{"loss": NaN}\n\xff\n[1]\n{"round": 2}\n{"rou')
    said = [said for _, said in read_json_lines(path)]
    assert said == [{"loss": None}, None, None, {"round": 2}, None]


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 20_000) + " = 1",
        "[" + ".".join("a" * 20_000) + "]",
        "x = {" + " . ".join(["'a'"] * 9000) + " = 1}",
        'x = """\n" """\n' + ".".join('"a"' for _ in range(9000)) + " = 1",
    ],
)
def test_a_key_of_many_parts_is_refused_at_once(tmp_path, text):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(ValueError, match="more than 64 parts"):
        read_toml(tmp_path / "s.toml")


def test_dots_in_numbers_and_text_are_no_parts(tmp_path):
    dotted = "1.2." * 100
    text = f'x = [{"0.1, " * 500}]\ny = \'{dotted}\'\nz = """{dotted}\n"{dotted}"""" # {dotted}\na.b.c = 1\n'
    (tmp_path / "s.toml").write_text(text)
    assert read_toml(tmp_path / "s.toml")["a"] == {"b": {"c": 1}}


def test_a_field_is_of_the_type_that_is_asked_for():
    record = json_object(b'{"count": 3, "mac": "ff", "share": 0.5, "sites": ["a"], "own": true}')
    assert member(record, "count", int) == 3 and member(record, "mac", str) == "ff" and member(record, "sites", list)
    assert (numeric_member(record, "count"), numeric_member(record, "share")) == (3, 0.5)


@pytest.mark.parametrize(("name", "kind"), [("mac", int), ("count", str), ("sites", dict)])
def test_a_field_of_another_type_is_named_with_what_it_is(name, kind):
    with pytest.raises(TypeError, match=rf"{name} is .*, not of the type {kind.__name__}"):
        member(json_object(b'{"count": 3, "mac": "ff", "sites": []}'), name, kind)


def test_what_is_no_number_is_none_and_what_is_not_there_is_a_key_error():
    for value in (b"true", b'"1"', b"null", b"[1]"):
        with pytest.raises(TypeError, match="no number"):
            numeric_member(json_object(b'{"seconds": ' + value + b"}"), "seconds")
    with pytest.raises(KeyError):
        member({}, "count", int)
