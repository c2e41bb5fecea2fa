"""The types of a Parquet file's columns: text, numbers and truth values are read; others are refused by name."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np

from consilium.core.errors import Refused

__all__ = ["check_types", "text_columns"]

_TYPES = {
    "bytes": ("bytes", "store it as text"),
    "Decimal": ("decimals", "store it as whole numbers or floats"),
    "date": ("dates", "turn it into a number such as an age"),
    "datetime": ("dates", "turn it into a number such as an age"),
    "Timestamp": ("dates", "turn it into a number such as an age"),
    "time": ("times", "turn it into a number such as hours"),
    "timedelta": ("durations", "turn it into a number such as days"),
    "Timedelta": ("durations", "turn it into a number such as days"),
    "ndarray": ("lists", "give each element a column of its own"),
    "list": ("lists", "give each element a column of its own"),
    "dict": ("structs", "give each field a column of its own"),
}
"""What a column of Python values of this type is called, and what to do."""


def check_types(frame: Any) -> None:
    """Refuse a column of ``frame`` that is not all text, all numbers or all true and false.

    Raises Refused: a column of mixed or unsupported types.
    """
    from pandas.api.types import is_numeric_dtype

    for name in frame.columns:
        if is_numeric_dtype(frame[name]) and frame[name].dtype.kind != "c":
            continue
        kinds = sorted(_kinds(frame[name].dropna()))
        if len(kinds) > 1:
            what = " and ".join(_TYPES.get(kind, (kind, ""))[0] for kind in kinds)
            raise Refused(f"column {name!r} mixes {what}", remedy="store one type, such as text", where=name)
        if kinds and kinds[0] not in ("text", "numbers", "truth values"):
            what, remedy = _TYPES.get(kinds[0], (f"values of type {kinds[0]}", "store it as text or numbers"))
            raise Refused(f"column {name!r} holds {what}", remedy=f"{remedy}, or drop the column", where=name)


def text_columns(frame: Any) -> list[str]:
    """The columns that hold text."""
    return [name for name in frame.columns if "text" in _kinds(frame[name].dropna())]


def _kinds(values: Iterable[object]) -> set[str]:
    return {_kind(type(value)) for value in values}


def _kind(type_: type) -> str:
    if issubclass(type_, str):
        return "text"
    if issubclass(type_, (bool, np.bool_)):
        return "truth values"
    return "numbers" if issubclass(type_, Real) else type_.__name__
