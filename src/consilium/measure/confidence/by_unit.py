"""Resampling by unit: what a figure would have been with other patients, all records of a patient drawn together.

    (c_1 ... c_u)  how often each of u units is drawn in u draws with replacement
    a sum over records becomes  sum_j c_j s_j,   s_j the sum over the records of unit j

Records of one patient resemble each other, so resampling records would take them for more than they are.

Source: Efron 1979 (bootstrap); Davison and Hinkley 1997, section 3.8 (whole clusters).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from consilium.core.random import Stream

__all__ = ["drawn_units", "resampled_sums", "unit_sums"]

_Floats = NDArray[np.float64]
_CHUNK = 4_000_000
"""Counts held at once while resampling."""


def unit_sums(values: _Floats, units: NDArray[np.int64]) -> _Floats:
    """Sums ``(u, k)`` over the records of each unit, from ``values (n, k)`` and ``units (n,)``."""
    different, of = np.unique(units, return_inverse=True)
    return np.stack([np.bincount(of.ravel(), column, minlength=len(different)) for column in values.T], axis=1)


def resampled_sums(sums: _Floats, stream: Stream, repeats: int = 1000) -> _Floats:
    """Sums ``(repeats, k)`` over units drawn with replacement from ``sums (u, k)``."""
    return np.concatenate([counts @ sums for counts in drawn_units(len(sums), stream, repeats)])


def drawn_units(units: int, stream: Stream, repeats: int = 1000, width: int = 0) -> Iterator[_Floats]:
    """How often each of ``units`` is drawn, ``(r, units)`` at a time, ``repeats`` rows in all.

    ``width`` is how many numbers the caller makes of a row, where that is more than there are units.
    """
    generator = np.random.default_rng(stream.number())
    for first in range(0, repeats, size := max(1, _CHUNK // max(units, width))):
        rows = min(size, repeats - first)
        resample = generator.integers(units, size=(rows, units)) + np.arange(rows)[:, None] * units
        yield np.bincount(resample.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)
