"""Features that are an attribute under another name: gender beside sex.  A model that is not to see it then does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np

from consilium.core.attribute import UNKNOWN, Attribute
from consilium.data.columns.encoding import Encoded

__all__ = ["attribute_copies"]

_FEW = 20
"""Among fewer records it may be chance."""


def attribute_copies(
    columns: Mapping[str, Encoded], attributes: Iterable[Attribute], also_inputs: Collection[str]
) -> Iterator[str]:
    """Cautions on ``columns`` of features that are in one-to-one correspondence with one of ``attributes``.

    Records of which the attribute is not known are left aside, and so are attributes that are ``also_inputs``.
    """
    for attribute in attributes:
        if attribute.name in also_inputs:
            continue
        known = attribute.codes.numpy() != UNKNOWN
        codes = attribute.codes.numpy()[known]
        words = len(np.unique(codes))
        if len(codes) < _FEW or words < 2 or 2 * words > len(codes):
            continue
        for name, column in columns.items():
            values = np.unique(column.x[known], axis=0, return_inverse=True)[1].reshape(-1)
            if len(np.unique(values)) == words == len(np.unique(values * words + codes)):
                yield (
                    f"column {name!r} has one value for each value of the attribute {attribute.name!r}, and tells it "
                    f'of every record: the model sees it; drop = ["{name}"] if it is not to'
                )
