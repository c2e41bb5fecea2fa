"""A table's columns as numbers, where they hold some."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.data.columns.cells import numbers
from consilium.data.columns.thousands import check_thousands

from .column_words import column_words

__all__ = ["numeric_values"]


def numeric_values(
    frame: Any, name: str, declared: tuple[float, float] | None, decimal: str
) -> npt.NDArray[Any] | None:
    """Column ``name`` of ``frame`` as numbers ``(n,)``; None where it holds words.

    ``declared`` is its range, where it has one, and ``decimal`` the mark in numbers that are stored as text.

    Raises Refused: some of its cells are numbers and others not, or a mark could mean thousands.
    """
    from pandas.api.types import is_numeric_dtype

    if is_numeric_dtype(frame[name]):
        return np.asarray(frame[name].to_numpy(dtype=None if frame[name].dtype.kind == "f" else np.float64))
    texts = column_words(frame, name)
    values = numbers(texts, frame.index, name, declared=declared is not None, decimal=decimal)
    if values is not None:
        check_thousands(texts, frame.index, name, declared, decimal)
    return values
