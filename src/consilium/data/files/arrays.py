"""Arrays as files hold them -> tensors as the house uses them.

uint8 is divided by 255; floats must already be in [0, 1].  Images become channels first: ``(n, h, w)`` and
``(n, h, w, 1)`` grey ``(n, 1, h, w)``; ``(n, h, w, 3)`` colour ``(n, 3, h, w)``.  ``(n, d)`` are features.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.data.checks.gap_words import names_nobody
from consilium.data.checks.verify import check_inputs, check_tokens

__all__ = ["check_digits", "identities", "inputs", "labels", "numbered", "token_inputs"]

_Array = npt.NDArray[Any]
_CHANNELS = (1, 3)
_SHORTENED = re.compile(r"[+-]?\d{1,3}(?:[.,]\d*[eE]\+?|[eE]\+)\d+(?:\.0*)?")
"""A long number as spreadsheets write it: its last digits are gone."""
_BARE = re.compile(r"[+-]?\d[eE](?:0?[5-9]|[1-9]\d{1,2})(?:\.0*)?")
"""The same without a sign and a mark, from a hundred thousand on; or hexadecimal, if other names are."""
_HEXADECIMAL = re.compile(r"(?=[\da-fA-F]*[a-dfA-DF])(?=[a-fA-F]*\d)[\da-fA-F]{3,}")


def inputs(array: _Array, where: str) -> Tensor:
    """float32 ``(n, *shape)`` in [0, 1] of a uint8 or float array; ``where`` names it in a refusal.

    Raises Refused: another type than uint8 or float, or another shape.
    """
    if array.dtype != np.uint8 and not (array.dtype.kind == "f" and array.dtype.itemsize in (2, 4, 8)):
        ids = (
            ", or set tokens to the size of the vocabulary if they are ids of words" if array.dtype.kind in "iu" else ""
        )
        raise Refused(
            f"inputs are of type {array.dtype}",
            remedy=f"store uint8 images (0 to 255), or floats in [0, 1]{ids}",
            where=where,
        )
    native = np.require(_channels_first(array, where), array.dtype.newbyteorder("="), ["C", "W"])
    x = torch.from_numpy(native)
    if array.dtype == np.uint8:
        x = x.float().div_(255)
    x = x.float()
    check_inputs(x, where)
    return x


def token_inputs(array: _Array, where: str, tokens: int) -> Tensor:
    """int64 ``(n, length)`` of an array of whole numbers below ``tokens``; ``where`` names it in a refusal.

    Raises Refused: another type or shape, an id out of range, or a record without a word.
    """
    if array.dtype.kind not in "iu" or array.ndim != 2:
        raise Refused(
            f"ids of words are of type {array.dtype} and shape {array.shape}",
            remedy="store them as int64 (n, length), 0 for padding and 1 for an unknown word",
            where=where,
        )
    wide = array.dtype.kind == "u" and array.dtype.itemsize == 8 and array.size
    if wide and int(array.max()) >= tokens:
        raise Refused(f"ids run up to {int(array.max())}", remedy=f"use ids below tokens = {tokens}", where=where)
    x = torch.from_numpy(np.ascontiguousarray(array.astype(np.int64)))
    check_tokens(x, tokens, where)
    return x


def _channels_first(array: _Array, where: str) -> _Array:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[3] in _CHANNELS:
        return array.transpose(0, 3, 1, 2)
    if array.ndim == 2 or (array.ndim == 4 and array.shape[1] in _CHANNELS):
        return array
    raise Refused(
        f"inputs have shape {array.shape}",
        remedy="use (n, features), (n, h, w), (n, h, w, 1) or (n, h, w, 3)",
        where=where,
    )


def labels(array: _Array, n: int, where: str) -> Tensor:
    """int64 ``(n,)`` of an array ``(n,)`` or ``(n, 1)`` of whole numbers from 0 on.

    Raises Refused: not one whole number from 0 on per record.
    """
    if array.ndim == 2 and array.shape[1] > 1:
        raise Refused(
            f"there are {array.shape[1]} labels for each record",
            remedy='give one label a record, or name the task: task = "multi-label", ...',
            where=where,
        )
    if array.shape not in ((n,), (n, 1)):
        if array.shape[:1] == (n,):
            raise Refused(
                f"the label of each record has the shape {array.shape[1:]}",
                remedy='give one label a record, or name the task: task = "masks", ...',
                where=where,
            )
        raise Refused(f"{array.shape[:1]} labels for {n} records", remedy="give one label a record", where=where)
    if array.dtype.kind not in "iufb":
        raise Refused(f"labels are of type {array.dtype}", remedy="number the classes from 0 on", where=where)
    flat = array.reshape(-1)
    if flat.dtype.kind == "f" and flat.dtype.itemsize < 4:  # which cannot be compared with 2^31
        flat = flat.astype(np.float64)
    wrong = np.flatnonzero(~((flat >= 0) & (flat < 2**31) & (flat == np.floor(flat))))
    if wrong.size:
        raise Refused(
            f"record {wrong[0]} has the label {flat[wrong[0]]}",
            remedy='number the classes 0, 1, ..., or name the task: task = "regression", ...',
            where=where,
        )
    return torch.from_numpy(flat.astype(np.int64))


def numbered(names: Sequence[str], *, whole: bool = False) -> tuple[Tensor, tuple[str, ...]]:
    """The group (patient, site) of each of n records by its name, numbered int64 ``(n,)`` from 0, and their names.

    The order is that of the text, or of the numbers where all names are ``whole`` ones.
    """
    order = sorted(set(names), key=int) if whole else sorted(set(names))
    places = {name: number for number, name in enumerate(order)}
    return torch.tensor([places[name] for name in names], dtype=torch.int64), tuple(order)


def identities(values: Sequence[object], where: str, places: Sequence[str] = ()) -> list[str]:
    """The names of n records' groups as text: a name is no measurement, so 01 is not 1, and none is missing.

    Refused, at its place: an empty name, a word for a missing one (nan, None, -1), and a float that is no exact whole
    number (NaN, 0.5, 2^53 and above).

    Raises Refused: a name is empty, missing or a float without exact digits.
    """
    names = []
    hexadecimal: bool | None = None  # looked up where it matters
    for number, value in enumerate(values):
        place = places[number] if places else f"record {number}"
        if isinstance(value, float) and not (abs(value) < 2**53 and value.is_integer()):
            why = "NaN is not a name" if math.isnan(value) else "a float does not keep all digits of a name"
            raise Refused(f"{place} is named {value:g}: {why}", remedy="store names as text", where=where)
        name = _as_name(_text(value))
        if _BARE.fullmatch(name) and hexadecimal is None:
            hexadecimal = any(_HEXADECIMAL.fullmatch(str(other)) for other in values)
        if _SHORTENED.fullmatch(name) or (_BARE.fullmatch(name) and not hexadecimal):
            reason = f"{place} is named {name}: a spreadsheet has shortened it, and others may bear the same"
            raise Refused(reason, remedy="export names as text", where=where)
        if not name:
            raise Refused(f"{place} has an empty name", remedy="name the group of every record", where=where)
        if names_nobody(name):
            reason = f"{place} is named {name!r}, which marks a missing name: all such records would be one group"
            raise Refused(reason, remedy="name the group of every record, or leave out those without one", where=where)
        names.append(name)
    return names


def check_digits(array: _Array, where: str) -> None:
    """Refuse names that are floats too large for their type to keep every whole number (2^24 in float32).

    Raises Refused: a float too large to be an exact name.
    """
    if array.dtype.kind != "f" or array.dtype.itemsize >= 8:
        return
    most = 2 ** (np.finfo(array.dtype).nmant + 1)
    wrong = np.flatnonzero(np.abs(array.reshape(-1)) >= most)
    if wrong.size:
        reason = (
            f"record {wrong[0]} is named {array.reshape(-1)[wrong[0]]:g}, and {array.dtype} keeps no name above {most}"
        )
        raise Refused(reason, remedy="store names as text", where=where)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(int(value)) if isinstance(value, (bool, int, float)) else str(value)


def _as_name(text: str) -> str:
    """``text`` without blanks around it, and with each accented letter as one character."""
    return unicodedata.normalize("NFC", text.strip())
