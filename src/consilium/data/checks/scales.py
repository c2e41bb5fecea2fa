"""Whether all parts of a data set were scaled alike: values that one part has divided by 255 once more are no pictures.

    bytes of 0 and 1              masks, one-hot rows: / 255 they would be 0 and .004, and a radius of .004 all of it
    a split of 0 to 1/255         beside one of 0 to 1: refused, for what is learned on the one is nothing on the other
    a site of 0 to 1/255          noted, as are data of which all is so: they may be what they seem to be

The range of a part is its greatest value less its least, over all features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.data.dataset import SPLITS, TRAIN, Dataset

__all__ = ["check_depth", "check_scales"]

_SHALLOW = 16
"""Bytes that reach no further hold something else than 0 to 255: four bits, or counts (digits of 0 to 16)."""
_RATIO = 16
_FEW = 8
"""What fewer records hold may be chance."""


def check_depth(arrays: Sequence[npt.NDArray[Any]], where: str) -> None:
    """Refuse bytes that together reach no further than 16 (and are not all 0): 255 is not their scale.

    Raises Refused: the largest byte is 1 to 16.
    """
    bytes_ = [array for array in arrays if array.dtype == np.uint8 and array.size]
    most = max((int(array.max()) for array in bytes_), default=0)
    if 0 < most <= _SHALLOW and sum(map(len, bytes_)) >= _FEW:
        raise Refused(
            f"bytes run from 0 to {most}: divided by 255, as bytes are, they would lie in [0, {most / 255:.2g}]",
            remedy=f"store floats in [0, 1], as x / numpy.float32({most}), or bytes of 0 to 255, as x * {255 // most}",
            where=where,
        )


def check_scales(dataset: Dataset) -> Iterator[str]:
    """Notes on data and natural sites that reach over a small fraction of [0, 1]; refused: such a split.

    Raises Refused: a split with another scale than the training split.
    """
    x, split = dataset.records.x, dataset.split
    if 0 < _RATIO * _range(x) < 1:
        yield f"inputs reach over {_range(x):.3g} of [0, 1] only: were they scaled once more? A radius is of [0, 1]"
    for part in [] if split is None else torch.unique(split[split != TRAIN]).tolist():
        one, train = x[split == part], x[split == TRAIN]
        if min(len(one), len(train)) >= _FEW and _apart(_range(one), _range(train)):
            raise Refused(
                f"inputs of the {SPLITS[part]} split reach over {_range(one):.3g}, those of the train split over "
                f"{_range(train):.3g}: one of them seems to be scaled once more",
                remedy="scale all splits alike, by the greatest value that is possible",
                where=dataset.name,
            )
    if dataset.keys is None:
        return
    ranges = {k: _range(x[dataset.keys == k]) for k in torch.unique(dataset.keys).tolist()}
    for key, reach in ranges.items():
        if int((dataset.keys == key).sum()) >= _FEW and _RATIO * reach < max(ranges.values()):
            yield (
                f"inputs of site {dataset.key_name(key)!r} reach over {reach:.3g}, those of another over "
                f"{max(ranges.values()):.3g}: are they scaled alike?"
            )


def _range(x: Tensor) -> float:
    low, high = x.aminmax()
    return float(high - low)


def _apart(one: float, other: float) -> bool:
    return _RATIO * min(one, other) < max(one, other)
