"""A column of a frame as words: numbers of a typed file as they are written, and names of groups."""

from __future__ import annotations

from typing import Any

import numpy as np

from consilium.data.files.arrays import check_digits, identities

__all__ = ["column_words", "group_names"]


def column_words(frame: Any, name: str) -> list[str]:
    """A column as words ``(n,)``: numbers of a typed file as short as their type allows, whole ones without a point."""
    values = frame[name].to_numpy() if frame[name].dtype.kind == "f" else frame[name].to_list()
    return [str(int(v)) if isinstance(v, (float, np.floating)) and v.is_integer() else str(v) for v in values]


def group_names(frame: Any, name: str) -> list[str]:
    """Column ``name`` as names of patients or sites, one a row.

    Raises Refused: a cell is no name, or may have lost digits.
    """
    if frame[name].dtype.kind == "f":
        check_digits(frame[name].to_numpy(), name)
    return identities(frame[name].to_list(), name, [f"row {row}" for row in frame.index])
