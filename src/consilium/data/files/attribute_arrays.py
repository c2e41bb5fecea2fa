"""Attributes that an npz holds beside x and y: an array of one value a record, under the attribute's own name.

sex, scanner                            beside x, y
train_sex, val_sex, test_sex            beside train_images, train_labels, ...
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.core.errors import Refused
from consilium.data.checks.gap_words import GAPS

from .split_names import split_named

__all__ = ["array_texts", "attribute_arrays"]

_Array = npt.NDArray[Any]


def attribute_arrays(attributes: Sequence[str], names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Which of the arrays ``names`` hold each attribute: one, or one for each part of a split, in the parts' order."""
    available = tuple(names)
    arrays = {}
    for attribute in attributes:
        parts = {}
        for name in available:
            prefix, _, rest = name.partition("_")
            split = split_named(prefix)
            if split is not None and rest == attribute:
                parts[split] = name
        plain = (attribute,) if attribute in available else ()
        arrays[attribute] = plain or tuple(parts[split] for split in sorted(parts))
    return arrays


def array_texts(
    attribute: str, names: Sequence[str], arrays: Mapping[str, _Array], n: int, where: str
) -> tuple[list[str], npt.NDArray[np.bool_]]:
    """The values of ``attribute`` as words ``(n,)`` out of its arrays ``names``, and which of them are not known.

    Raises Refused: no array, another number of values than records, or values that are no words and no numbers.
    """
    if not names:
        reason = f"there is no array {attribute!r} for the attribute of that name"
        raise Refused(reason, remedy=f"store it: numpy.savez(path, ..., {attribute}={attribute})", where=where)
    texts: list[str] = []
    for name in names:
        array = arrays[name]
        if array.ndim == 0 or array.size != len(array) or array.dtype.kind not in "iufbUS":
            reason = f"array {name!r} has shape {array.shape} and type {array.dtype}"
            raise Refused(reason, remedy="give one word or number a record", where=f"{where}[{name}]")
        texts += [_text(value) for value in array.reshape(-1).tolist()]
    if len(texts) != n:
        reason = f"{len(texts)} values of the attribute {attribute!r} for {n} records"
        raise Refused(reason, remedy="give one value a record, in every part", where=where)
    return texts, np.array([text in GAPS for text in texts])


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace").strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
