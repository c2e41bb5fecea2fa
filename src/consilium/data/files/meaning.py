"""A source's description of its inputs, for two sites to compare: the steps of preparation, and named features.

Arrays were prepared elsewhere: their type is known, their scaling and resampling are not, and the features
of ``(n, d)`` have names only where an array ``columns`` gives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.core.errors import Refused
from consilium.core.inputs import Column, Inputs

__all__ = ["BYTES", "COLUMNS", "STORED_BYTES", "TABULAR", "meaning_of"]

BYTES = "uint8 / 255"
COLUMNS = "columns"
"""The name of the array that names features."""
TABULAR = (("numbers", "scaled by their range, clipped to it"), ("words", "one feature for each category"))
"""How a table's columns become features."""
_STORED = (("colour", "as stored"), ("resampling", "as stored"))
STORED_BYTES = (*_STORED, ("values", BYTES))
"""How pictures become inputs that are stored as arrays of bytes."""

_Array = npt.NDArray[Any]


def meaning_of(parts: Sequence[_Array], columns: _Array | None, patients: bool, where: str, tokens: int = 0) -> Inputs:
    """What the inputs ``parts`` of an npz mean; ``columns (d,)`` names the features of ``(n, d)``.

    ``tokens`` is the size of the vocabulary where they are ids of words.

    Raises Refused: names of features beside ids of words.
    """
    if tokens:
        if columns is not None:
            reason = "columns name features, and ids of words have none"
            raise Refused(reason, remedy="leave the array out", where=f"{where}[{COLUMNS}]")
        return Inputs(preparation=(("vocabulary", "as stored"),), patients=patients, tokens=tokens)
    scales = sorted({BYTES if part.dtype == np.uint8 else "floats as stored" for part in parts})
    values = ("values", " and ".join(scales))
    if parts[0].ndim > 2 and columns is None:
        return Inputs(preparation=(*_STORED, values), patients=patients)
    named = () if columns is None else _named(columns, parts[0].shape[1:], f"{where}[{COLUMNS}]")
    return Inputs(named, preparation=(values,), patients=patients)


def _named(columns: _Array, shape: tuple[int, ...], where: str) -> tuple[Column, ...]:
    """A column for each name; refused where they do not name the features of ``shape``."""
    if columns.dtype.kind != "U" or columns.shape != shape or len(set(columns.tolist())) < len(columns):
        raise Refused(
            f"columns of shape {columns.shape} and type {columns.dtype} do not name features of shape {shape}",
            remedy="give one text for each feature of x (n, d), all different, or leave the array out",
            where=where,
        )
    return tuple(Column(name) for name in columns.tolist())
