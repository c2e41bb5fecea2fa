"""The kinds of a field of evidence, as pydantic reads them: one schema, and two ways to read it.

    tolerant   a value of another kind becomes an empty one: a report drops no cell for one odd field
    strict     it is an error that names the field: a run resumes only from what was written this way

A number that is none (NaN, infinity) is None in both, and null is the empty value of a text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, ValidationInfo

__all__ = ["ABSENT", "Asked", "Code", "Count", "Flag", "Free", "Items", "Maybe", "Name", "Number", "Record",
           "Seconds", "Table", "Text", "Texts", "Whole", "Wholes", "refused", "required"]  # fmt: skip

T = TypeVar("T")

ABSENT: Mapping[str, bool] = {"absent": True}
"""Metadata of a field that is not written at all while it is None."""


def refused(info: ValidationInfo, wanted: str) -> None:
    """Raise ValueError in a strict reading: ``wanted`` describes the expected value."""
    if info.context is not None and info.context.get("strict"):
        raise ValueError(f"it is not {wanted}")


def required(*names: str) -> Callable[[object, ValidationInfo], Mapping[str, object]]:
    """A reader of a table; a strict one refuses a table without one of ``names``."""

    def table(value: object, info: ValidationInfo) -> Mapping[str, object]:
        known = _table(value, info)
        if any(name not in known for name in names):
            refused(info, f"a table with {', '.join(names)}")
        return known

    return table


def _text(value: object, info: ValidationInfo) -> str:
    if isinstance(value, str):
        return value
    refused(info, "a text")
    return "" if value is None else str(value)


def _name(value: object, info: ValidationInfo) -> str | None:
    if value is None or isinstance(value, str):
        return value
    refused(info, "a text or null")
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object, info: ValidationInfo) -> float | None:
    if value is not None and not _is_number(value):
        refused(info, "a number or null")
        return None
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _count(value: object, info: ValidationInfo) -> int | None:
    number = _number(value, info)
    return None if number is None else int(number)


def _whole(value: object, info: ValidationInfo) -> int:
    if not _is_number(value):
        refused(info, "a number")
    return _count(value, info) or 0


def _flag(value: object, info: ValidationInfo) -> bool:
    if not isinstance(value, bool):
        refused(info, "true or false")
    return value is True


def _table(value: object, info: ValidationInfo) -> Mapping[str, object]:
    if isinstance(value, Mapping):
        return value
    refused(info, "a table")
    return {}


def _maybe(value: object, info: ValidationInfo) -> Mapping[str, object] | None:
    return None if value is None else _table(value, info) or None


def _items(value: object, info: ValidationInfo) -> list[object]:
    if isinstance(value, list):
        return value
    refused(info, "a list")
    return []


def _texts(value: object, info: ValidationInfo) -> list[object] | None:
    return None if value is None else _items(value, info)


def _code(value: object, info: ValidationInfo) -> int | str:
    return value if isinstance(value, int) and not isinstance(value, bool) else _text(value, info)


def _seconds(value: object, info: ValidationInfo) -> Mapping[str, object]:
    return {name: one for name, one in _table(value, info).items() if _number(one, info) is not None}


Text = Annotated[str, BeforeValidator(_text)]
Name = Annotated[str | None, BeforeValidator(_name)]
"""A text, or null."""
Number = Annotated[int | float | None, BeforeValidator(_number)]
"""A number, or null; a whole one stays whole."""
Whole = Annotated[int, BeforeValidator(_whole)]
Count = Annotated[int | None, BeforeValidator(_count)]
"""A whole number, or null."""
Flag = Annotated[bool, BeforeValidator(_flag)]
"""True only where true is written."""
Texts = Annotated[tuple[Text, ...], BeforeValidator(_items)]
Asked = Annotated[tuple[Text, ...] | None, BeforeValidator(_texts)]
"""Texts, or null."""
Code = Annotated[int | str, BeforeValidator(_code)]
"""A number, or a text where the file has one."""
Wholes = Annotated[tuple[Whole, ...], BeforeValidator(_items)]
Table = Annotated[Mapping[str, T], BeforeValidator(_table)]
Free = Annotated[Mapping[str, object], BeforeValidator(_table)]
"""A table that is shown as it is."""
Seconds = Annotated[Mapping[str, int | float], BeforeValidator(_seconds)]
"""Numbers by name; what is none is left out."""
Items = Annotated[tuple[T, ...], BeforeValidator(_items)]
Record = Annotated[T, BeforeValidator(_table)]
Maybe = Annotated[T | None, BeforeValidator(_maybe)]
"""A record, or null; an empty table is none."""
