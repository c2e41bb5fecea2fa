"""Rules that sort each coordinate by itself: the trimmed mean, and the mean of the values around the median.

Source: Yin et al. 2018, arXiv 1803.01498; El Mhamdi et al. 2018, arXiv 1802.07927.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from consilium.core.update import Payload, Update

from ._payloads import by_coordinate
from ._robust_rule import RobustRule

__all__ = ["TrimmedMeanRule", "mean_around_median", "middle", "ordered", "trimmed_mean"]


def ordered(block: Tensor) -> Tensor:
    """Each column of ``(n, block)`` in ascending order, NaN last.

    Sorted as rows, and on the CPU by numpy, which has vector instructions for it: twenty times faster there.  Zeros of
    both signs are equal, and stand in any order.
    """
    rows = block.T.contiguous()
    if rows.device.type == "cpu" and rows.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(rows.numpy(), axis=1)).T
    return rows.sort(dim=1).values.T


def trimmed_mean(cut: int, block: Tensor) -> Tensor:
    """The mean of each column of ``(n, block)`` without its ``cut`` smallest and its ``cut`` largest values."""
    return ordered(block)[cut : len(block) - cut].mean(dim=0)


def middle(block: Tensor) -> Tensor:
    """The median of each column of ``(n, block)``, the mean of the middle two where n is even."""
    values, n = ordered(block), len(block)
    return values[(n - 1) // 2] / 2 + values[n // 2] / 2


def mean_around_median(count: int, block: Tensor) -> Tensor:
    """The mean of the ``count`` values of each column of ``(n, block)`` that are nearest to its median."""
    values = ordered(block)
    nearest = (values - middle(block)).abs().argsort(dim=0, stable=True)[:count]
    return values.gather(0, nearest.sort(dim=0).values).mean(dim=0)


@dataclass(frozen=True, eq=False)
class TrimmedMeanRule(RobustRule):
    """Each coordinate without its f smallest and f largest values."""

    def combine(self, updates: Sequence[Update], byzantine: int, memory: Payload) -> tuple[Payload, Payload]:
        """Every part of the payload by itself."""
        rule = partial(trimmed_mean, byzantine)
        return {name: by_coordinate(updates, name, rule) for name in updates[0].payload}, memory
