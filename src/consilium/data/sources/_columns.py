"""One table column -> features in [0, 1].

Numbers: (value - low) / (high - low), clipped.  Words: one column for each category, 1 where it holds.  Range and
categories are public where the user declares them; what is read from the records is private and named as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from consilium.core.errors import Refused
from consilium.core.inputs import Column

__all__ = ["Encoded", "encode_numbers", "encode_words"]

_MANY = 100
"""Undeclared categories beyond this number look like an identifier."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Features float32 ``(n, k)``, whether they were scaled by what the records themselves say, and what they mean.

    ``range`` is the declared one of a column of numbers; ``words`` are the categories of the features, in order;
    ``clipped (n,)`` says which values lay outside the range.
    """

    x: npt.NDArray[np.float32]
    private: bool
    range: tuple[float, float] | None = None
    words: tuple[str, ...] = ()
    clipped: npt.NDArray[np.bool_] | None = None

    def column(self, name: str, unit: str) -> Column:
        """The column called ``name`` as sites agree on it."""
        return Column(name, self.range, self.words, unit, not self.private)


def encode_numbers(values: npt.NDArray[Any], declared: tuple[float, float] | None, name: str) -> Encoded:
    """A column of numbers ``(n,)`` by its declared range, or else by its least and greatest value."""
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise Refused(f"column {name!r} holds infinite values", remedy="repair or drop these rows", where=name)
    low, high = declared or (float(numbers.min()), float(numbers.max()))
    outside = (numbers < low) | (numbers > high)
    if declared and float(outside.mean()) > 0.5:
        raise Refused(
            f"most values of column {name!r} lie outside its declared range {low:g} to {high:g}",
            remedy="declare the range in the column's own unit",
            where="ranges",
        )
    scaled = np.clip((numbers - low) / (high - low), 0, 1) if high > low else np.zeros_like(numbers)
    return Encoded(scaled.astype(np.float32)[:, None], declared is None, declared, clipped=outside)


def encode_words(values: npt.NDArray[Any], declared: tuple[str, ...] | None, name: str) -> Encoded:
    """A column of words ``(n,)``, one feature for each declared category, or else for each that occurs."""
    present = sorted(set(values.tolist()))
    unknown = [] if declared is None else [word for word in present if word not in declared]
    if unknown:
        raise Refused(
            f"column {name!r} holds {unknown[0]!r}, which is not among its declared categories",
            remedy="declare every category, or drop these rows",
            where="categories",
        )
    if declared is None and len(present) > _MANY:
        raise Refused(
            f"column {name!r} holds {len(present)} different words: it looks like an identifier",
            remedy="drop it, or declare its categories",
            where="drop",
        )
    words = declared or tuple(present)
    one_hot = values[:, None] == np.array(words, dtype=object)[None]
    return Encoded(one_hot.astype(np.float32), declared is None, words=words)
