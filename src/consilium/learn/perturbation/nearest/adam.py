"""Adam for many problems of one record each, some of which end before the others.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2,   step = rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + 1e-8)

Source: Kingma and Ba 2015, Adam, arXiv 1412.6980
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Adam"]

_FIRST, _SECOND, _LEAST = 0.9, 0.999, 1e-8


class Adam:
    """The moments of the problems that are still going on, ``(n, *shape)``, changed by each step."""

    def __init__(self, mean: Tensor, square: Tensor, rate: float, count: int = 0) -> None:
        self._mean, self._square, self._rate, self._count = mean, square, rate, count

    @classmethod
    def of(cls, x: Tensor, rate: float) -> Adam:
        """Before the first step, for problems of the shape of ``x (n, *shape)``."""
        return cls(torch.zeros_like(x), torch.zeros_like(x), rate)

    def of_rows(self, mask: Tensor) -> Adam:
        """The same for those of ``mask (n,)`` alone."""
        return Adam(self._mean[mask], self._square[mask], self._rate, self._count)

    def step(self, gradient: Tensor) -> Tensor:
        """What to subtract ``(n, *shape)`` for this ``gradient (n, *shape)``."""
        self._count += 1
        self._mean.mul_(_FIRST).add_(gradient, alpha=1 - _FIRST)
        self._square.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
        size = self._square.sqrt().div_(math.sqrt(1 - _SECOND**self._count)).add_(_LEAST)
        return self._mean.mul(self._rate / (1 - _FIRST**self._count)).div_(size)
