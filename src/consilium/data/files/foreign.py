"""Arrays as other programs write them: their names and forms, each refused with the step that makes it readable.

Names: ``X``, ``data``, ``target``, ``x_train``.  Forms: one-hot or text labels, axes of which two can be the channels.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.core.errors import Refused

from .split_names import split_named

__all__ = ["check_axes", "check_label_form", "check_unread_names"]

_Array = npt.NDArray[Any]
_INPUTS = ("x", "image", "images", "img", "imgs", "data", "input", "inputs", "feature", "features", "pixels")
_LABELS = ("y", "label", "labels", "target", "targets")
_ROLES = {
    **dict.fromkeys(_INPUTS, ("x", "images")),
    **dict.fromkeys(_LABELS, ("y", "labels")),
    **{name: (name, name) for name in ("units", "keys", "columns")},
}
"""What each name is called here without a split, and in a part of one."""
_CHANNELS = (1, 3)


def check_unread_names(unread: Collection[str], known: Collection[str], where: str) -> None:
    """Refuse an array that is not read although its name is recognisable; ``known`` are the standard names read.

    Raises Refused: an array under a known but unread name.
    """
    divided = any(split_named(name.partition("_")[0]) is not None for name in known)
    standards = {name: standard for name in unread if (standard := _meant(name)) and standard not in known}
    standards = {name: standard for name, standard in standards.items() if not divided or "_" in standard}
    if standards:
        raise Refused(
            f"arrays are not read under these names: {', '.join(standards)}",
            remedy="rename "
            + ", ".join(f"{name} to {standard}" for name, standard in standards.items())
            + " (names are case sensitive), or leave out what is something else",
            where=where,
        )


def _meant(name: str) -> str:
    """``X`` -> ``x``, ``x_train`` -> ``train_images``; empty where nothing is recognised."""
    words = [word for word in re.split(r"[\W_]+", name.casefold()) if word]
    splits = [split for word in words if (split := split_named(word)) is not None]
    plain, part = _ROLES.get("_".join(word for word in words if split_named(word) is None), ("", ""))
    if len(splits) != 1:
        return plain if not splits else ""
    return f"{('train', 'val', 'test')[splits[0]]}_{part}" if part and part != "columns" else ""


def check_axes(array: _Array, where: str) -> None:
    """Refuse pictures ``(n, a, b, c)`` of which both a and c can be the number of channels.

    Raises Refused: the axis of the channels is ambiguous.
    """
    if array.ndim == 4 and {array.shape[1], array.shape[3]} <= set(_CHANNELS) and array.shape[1:] != (1, 1, 1):
        raise Refused(
            f"inputs have shape {array.shape}: the channels can be the second axis or the last",
            remedy="store grey pictures as (n, h, w), and colour ones of more than 3 pixels a side",
            where=where,
        )


def check_label_form(array: _Array, where: str) -> None:
    """Refuse labels that are text, or one-hot rows ``(n, classes)``.

    Raises Refused: text or one-hot labels.
    """
    if array.dtype.kind in "US" and array.size:
        raise Refused(
            f"labels are text, such as {array.reshape(-1)[0].item()!r}",
            remedy="number them: names, y = numpy.unique(y, return_inverse=True), and give the names as classes",
            where=where,
        )
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "iufb" and _one_hot(array):
        raise Refused(
            f"labels are one-hot rows of {array.shape[1]}", remedy="store their places: y.argmax(axis=1)", where=where
        )


def _one_hot(array: _Array) -> bool:
    return bool(np.isin(array, (0, 1)).all() and (np.count_nonzero(array, axis=1) == 1).all())
