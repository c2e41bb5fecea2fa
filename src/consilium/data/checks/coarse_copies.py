"""Records of two splits that are one at the precision of the coarser: float16 test copies of float32 training records.

Exact duplicates are found by their bytes, which rounding changes.  A model that has seen the one has seen the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["coarse_copies"]

_Array = npt.NDArray[Any]
_COARSE = ("uint8", "float16")
_FEW = 8
"""Records of fewer values may be equal by chance once they are rounded."""


def coarse_copies(parts: Sequence[tuple[str, _Array, _Array]]) -> Iterator[str]:
    """A note for each two splits that hold copies which differ only by the rounding of one's type.

    ``parts`` are names, the arrays as they are stored ``(n, ...)``, and the same in float32 and one layout.
    """
    for one, other in combinations(parts, 2) if parts[0][2][0].size >= _FEW else ():
        for (fine, of, x), (coarse, coarse_of, z) in ((one, other), (other, one)):
            kind = coarse_of.dtype.newbyteorder("=").name
            if kind in _COARSE and of.dtype.kind == "f" and of.dtype.itemsize > coarse_of.dtype.itemsize:
                count = _copies(x, z, kind)
                if count:
                    yield (
                        f"{count} records of {fine} ({of.dtype.name}) equal records of {coarse} once they are rounded "
                        f"to {kind}: they are copies, and were not removed; store all splits in one type"
                    )


def _copies(x: _Array, z: _Array, kind: str) -> int:
    """How many rows of ``x`` round to a row of ``z`` and are not equal to one."""
    known = set(_digests(z))
    rounded = np.rint(x * 255) / np.float32(255) if kind == "uint8" else x.astype(np.float16).astype(np.float32)
    return sum(a in known and b not in known for a, b in zip(_digests(rounded), _digests(x), strict=True))


def _digests(x: _Array) -> list[bytes]:
    rows = np.ascontiguousarray(x, np.float32).reshape(len(x), -1) + np.float32(0)  # + 0 makes -0.0 equal 0.0
    return [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]
