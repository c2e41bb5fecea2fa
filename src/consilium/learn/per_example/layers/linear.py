"""Linear layers, with any number of dimensions between the examples and the features: T positions of one example.

    y = W x + b,   G_n = sum over t of g[n, t] a[n, t]^T        a the inputs (T, D), g the output gradients (T, O)

For T = 1, ||G_n||^2 = |a_n|^2 |g_n|^2 and sum_n w_n G_n = (w g)^T a: no G_n is formed, and no product for its norm.
For more positions see ``layer_gradients``.

Source: Goodfellow 2015, Efficient Per-Example Gradient Computations, arXiv 1510.01799
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from consilium.learn.per_example.buffer_pool import BufferPool
from consilium.learn.per_example.layer_gradients import LayerGradients, MatrixGradients, Products
from consilium.learn.per_example.layer_rule import LayerCall, LayerRule, register

from .cost import ghost_is_cheaper

__all__ = ["LinearRule"]


@register(nn.Linear, NonDynamicallyQuantizableLinear)
class LinearRule(LayerRule):
    """``nn.Linear``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        self._pool = BufferPool()

    def gradients(self, calls: Sequence[LayerCall], n: int) -> LayerGradients:
        """Calls are joined along the positions."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        a = _joined([call.input for call in calls], n, weight.dtype)
        g = _joined([call.output_gradient for call in calls], n, weight.dtype)
        bias = g.sum(1) if self.layer.bias is not None else None
        t, d, o = a.shape[1], a.shape[2], g.shape[2]
        if t == 1:
            return _OuterProducts(a[:, 0], g[:, 0], bias)
        ghost = ghost_is_cheaper(n, t, d, o, t * t * d)
        each = a.element_size() * t * (t if ghost else d)
        return MatrixGradients(
            _Positions(a, g), g, bias, ghost, each, lambda count: self._pool.lend((1, count, o * d), a)
        )


class _OuterProducts(LayerGradients):
    """One position: G_n = g_n a_n^T of ``a (n, D)`` and ``g (n, O)``; ``bias (n, O)`` is its gradient, or None."""

    def __init__(self, a: Tensor, g: Tensor, bias: Tensor | None) -> None:
        self.a, self.g, self.bias = a, g, bias

    def squares(self) -> list[Tensor]:
        """|a|^2 |g|^2, then |g|^2."""
        weight = self.g.square().sum(1) * self.a.square().sum(1)
        return [weight, *([] if self.bias is None else [self.bias.square().sum(1)])]

    def weighted(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """``(O, D)`` by one product over all examples, then ``(O,)``."""
        weight = (self.g * weights[0][:, None]).T @ self.a
        return [weight, *([] if self.bias is None else [weights[1] @ self.bias])]

    def formed(self) -> list[Tensor]:
        """``(n, O * D)``, then ``(n, O)``."""
        return [(self.g[:, :, None] * self.a[:, None]).flatten(1), *([] if self.bias is None else [self.bias])]

    def held(self) -> int:
        """No gradient is formed."""
        return 0


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
