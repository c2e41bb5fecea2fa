"""Arrays as files hold them -> tensors as the house uses them.

uint8 is divided by 255; floats must already lie in [0, 1].  Images become channels first: ``(n, h, w)`` and
``(n, h, w, 1)`` grey ``(n, 1, h, w)``; ``(n, h, w, 3)`` colour ``(n, 3, h, w)``.  ``(n, d)`` are features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.errors import Refused

from .verify import check_inputs

__all__ = ["inputs", "labels", "numbered"]

_Array = npt.NDArray[Any]
_CHANNELS = (1, 3)


def inputs(array: _Array, where: str) -> Tensor:
    """float32 ``(n, *shape)`` in [0, 1] of a uint8 or float array; ``where`` names it in a refusal."""
    if array.dtype != np.uint8 and not (array.dtype.kind == "f" and array.dtype.itemsize in (2, 4, 8)):
        raise Refused(
            f"inputs are of type {array.dtype}",
            remedy="store uint8 images (0 to 255), or floats in [0, 1]",
            where=where,
        )
    native = np.require(_channels_first(array, where), array.dtype.newbyteorder("="), ["C", "W"])
    x = torch.from_numpy(native)
    if array.dtype == np.uint8:
        x = x.float().div_(255)
    x = x.float()
    check_inputs(x, where)
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
    """int64 ``(n,)`` of an array ``(n,)`` or ``(n, 1)`` of whole numbers from 0 on."""
    if array.ndim == 2 and array.shape[1] > 1:
        raise Refused(
            f"there are {array.shape[1]} labels for each record", remedy="give one label a record", where=where
        )
    if array.shape not in ((n,), (n, 1)):
        raise Refused(f"{array.shape[:1]} labels for {n} records", remedy="give one label a record", where=where)
    if array.dtype.kind not in "iufb":
        raise Refused(f"labels are of type {array.dtype}", remedy="number the classes 0, 1, ...", where=where)
    flat = array.reshape(-1)
    wrong = np.flatnonzero(~((flat >= 0) & (flat < 2**31) & (flat == np.floor(flat))))
    if wrong.size:
        raise Refused(
            f"record {wrong[0]} has the label {flat[wrong[0]]}",
            remedy="labels are whole numbers: 0, 1, ..., classes - 1",
            where=where,
        )
    return torch.from_numpy(flat.astype(np.int64))


def numbered(array: _Array, n: int, where: str) -> tuple[Tensor, tuple[str, ...]]:
    """Groups of n records (patients, sites) given by any values, numbered from 0 in sorted order, and their names."""
    if array.shape not in ((n,), (n, 1)):
        raise Refused(f"shape {array.shape} for {n} records", remedy="give one value a record", where=where)
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise Refused("NaN is nobody's name", remedy="name the group of every record", where=where)
    names, numbers = np.unique(array.reshape(-1), return_inverse=True)
    return torch.from_numpy(numbers.astype(np.int64)), tuple(str(name) for name in names.tolist())
