"""One value a record, of which a figure is the weighted sum of means over strata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RecordOutcomes"]

_Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RecordOutcomes:
    """One value for each record ``(n,)``, in the order of ids; ``weights`` are those of the strata."""

    ids: NDArray[np.int64]
    units: NDArray[np.int64]
    values: _Floats
    strata: NDArray[np.int64]
    weights: tuple[float, ...]

    @classmethod
    def of(
        cls, ids: NDArray[np.int64], units: NDArray[np.int64], values: NDArray[Any], strata: NDArray[np.int64],
        weights: tuple[float, ...],
    ) -> RecordOutcomes:  # fmt: skip
        """Sorted by id."""
        order = np.argsort(ids, kind="stable")
        return cls(ids[order], units[order], values[order].astype(np.float64), strata[order], weights)

    @property
    def figure(self) -> float:
        """What these values give."""
        means = [self.values[self.strata == s].mean() for s in range(len(self.weights))]
        return float(np.dot(self.weights, means))
