"""Linear layers, with any number of dimensions between the examples and the features: T positions of one example.

For T = 1, ||G_n||^2 = |a_n|^2 |g_n|^2 and no product is needed at all.

Source: Goodfellow 2015, Efficient Per-Example Gradient Computations, arXiv 1510.01799
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from .cost import ghost_is_cheaper
from .kept import Kept
from .pieces import Matrix, Products
from .rule import Rule, Use

__all__ = ["LinearRule"]


class LinearRule(Rule):
    """``nn.Linear``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        self._kept = Kept()

    @staticmethod
    def covers(layer: nn.Module) -> bool:
        """Exactly torch's own."""
        return type(layer) in {nn.Linear, NonDynamicallyQuantizableLinear}

    def piece(self, uses: Sequence[Use], n: int) -> Matrix:
        """Uses are joined along the positions."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        a = _joined([use.a for use in uses], n, weight.dtype)
        g = _joined([use.g for use in uses], n, weight.dtype)
        t, d, o = a.shape[1], a.shape[2], g.shape[2]
        ghost = t == 1 or ghost_is_cheaper(n, t, d, o, t * t * d)
        bias = g.sum(1) if self.layer.bias is not None else None
        each = a.element_size() * t * (t if ghost else d)
        return Matrix(_Positions(a, g), g, bias, ghost, each, lambda count: self._kept.lend((1, count, o * d), a))


class _Positions(Products):
    """The input itself: ``(n, T, D)``."""

    def __init__(self, a: Tensor, g: Tensor) -> None:
        self.a, self.g, self.d = a, g, a.shape[2]

    def patches(self, part: slice) -> list[Tensor]:
        """As they are."""
        return [self.a[part]]

    def grams(self, part: slice) -> Tensor:
        """Of the positions."""
        return torch.bmm(self.a[part], self.a[part].transpose(1, 2))

    def ordinary(self, weights: Tensor) -> Tensor:
        """One product over all positions of all examples."""
        return (self.g * weights[:, None, None]).flatten(0, 1).T @ self.a.flatten(0, 1)

    def in_place(self, rows: Tensor) -> Tensor:
        """``(1, k, O * D)`` is the weight's order."""
        return rows[0]


def _joined(values: list[Tensor], n: int, dtype: torch.dtype) -> Tensor:
    rows = [v.to(dtype).reshape(n, -1, v.shape[-1]) for v in values]
    return rows[0] if len(rows) == 1 else torch.cat(rows, 1)
