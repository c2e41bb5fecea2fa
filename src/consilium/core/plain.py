"""Plain data in untrusted files: JSON and TOML, read with bounds on size, depth and numbers.

JSON is UTF-8, an object, at most 64 levels deep, every name once, every number finite, every string text.  ``json``
alone takes NaN, lets the last of two equal names win, and makes strings that no file can hold ("\\ud800").
TOML is at most 1 MB, and a key has at most 64 parts: Python's reader takes a time that grows with their square.

Source: RFC 8259 (JSON), section 9: a parser may set limits on size, depth, range and the contents of strings.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn, TypeAlias, TypeVar

from .files import read_bytes

__all__ = ["Json", "json_object", "json_text", "member", "numeric_member", "read_json", "read_json_lines", "read_toml"]

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
"""The values of JSON; objects and arrays are read as dict and list."""

_Kind = TypeVar("_Kind")
_MOST = 1 << 30
"""Bytes of a JSON file: a study of 100,000 sites writes hundreds of megabytes."""
_TOML = 1_000_000
_DEEP = 64
_DIGITS = 300
"""Of a whole number: any of them is still a finite float."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5})?'  # possessive, and an open string takes the rest: linear time
    r"|'''(?:[^']|'(?!''))*+(?:'{3,5})?"
    r'|"(?:[^"\\\n]|\\[^\n])*+"?'
    r"|'[^'\n]*+'?|#[^\n]*|[\w-]+|\s+|.",
    re.DOTALL,
)


def read_json(path: Path, *, nan_is_null: bool = False) -> dict[str, Json]:
    """The object in a file; OSError where it cannot be opened, ValueError where it holds no such object."""
    return json_object(read_bytes(path, _MOST), nan_is_null=nan_is_null)


def read_json_lines(path: Path) -> list[tuple[bytes, dict[str, Json] | None]]:
    """Each line as written, with its end, and its object; None for a line without one.

    NaN and infinity are read as null here: a site's loss may be no number, and its round is a round all the same.
    """
    lines = read_bytes(path, _MOST).splitlines(keepends=True)
    return [(line, _parsed(line)) for line in lines]


def json_object(data: bytes, *, nan_is_null: bool = False) -> dict[str, Json]:
    """The object that ``data`` is; ValueError, with the reason, where it is none within the bounds above."""
    constant = _null if nan_is_null else _not_a_number
    try:
        text = data.decode()
        value = json.loads(
            text, object_pairs_hook=_once, parse_constant=constant, parse_float=_finite, parse_int=_whole
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, not an object")
    _bounded(value)
    if _SURROGATE.search(text) and (odd := _surrogate(value)):
        raise ValueError(f"{odd} is half a character")
    return value


def member(record: Mapping[str, Json], name: str, kind: type[_Kind]) -> _Kind:
    """``record[name]``, of this ``kind``; KeyError where it is not there, TypeError where it is something else."""
    value = record[name]
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {value!r:.80}, not of the type {kind.__name__}")
    return value


def numeric_member(record: Mapping[str, Json], name: str) -> float:
    """``record[name]``, whole or not; KeyError where it is not there, TypeError where it is no number."""
    value = record[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r:.80}, no number")
    return value


def json_text(data: Mapping[str, object], *, indent: int | None = None, allow_nan: bool = False) -> str:
    """``data`` as JSON that :func:`json_object` reads: half a character, as in the name of a file, becomes "?"."""
    text = json.dumps(data, indent=indent, allow_nan=allow_nan)
    if not _SURROGATE.search(text) or not _surrogate(data):
        return text
    whole = json.loads(json.dumps(data, ensure_ascii=False, allow_nan=allow_nan).encode("utf-8", "replace"))
    return json.dumps(whole, indent=indent, allow_nan=allow_nan)


def read_toml(path: Path) -> dict[str, Json]:
    """The tables in a file; OSError where it cannot be opened, ValueError where they cannot be read."""
    text = read_bytes(path, _TOML).decode("utf-8-sig")
    _refuse_long_keys(text)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _parsed(line: bytes) -> dict[str, Json] | None:
    try:
        return json_object(line, nan_is_null=True)
    except ValueError:
        return None


def _bounded(value: dict[str, Json]) -> None:
    level: list[dict[str, object] | list[object]] = [{**value}]
    for _ in range(_DEEP):
        inside = [part for node in level for part in (node.values() if isinstance(node, dict) else node)]
        level = [part for part in inside if isinstance(part, dict | list)]
        if not level:
            return
    raise ValueError(f"it is nested more than {_DEEP} levels deep")


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {duplicate[:80]!r} occurs twice in one object")
    return table


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"the number {text[:20]}... is too large")
    return int(text)


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _null(text: str) -> None:
    """A figure that is none."""


def _surrogate(value: object) -> str:
    """A lone surrogate somewhere in ``value``, escaped; empty where every string is text."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return ascii(error.object[error.start])
    return ""


def _refuse_long_keys(text: str) -> None:
    if text.count(".") <= _DEEP:
        return
    parts = 0
    tokens = (token for token in _TOKEN.findall(text) if token.strip(" \t"))
    for before, token in pairwise(tokens):
        if token == ".":
            parts += 1
        elif before != ".":
            parts = 0
        if parts > _DEEP:
            raise ValueError(f"a key has more than {_DEEP} parts")
