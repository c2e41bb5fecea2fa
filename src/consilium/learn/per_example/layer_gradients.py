"""One layer's per-example gradients, formed or not: their squared norms, and their weighted sum.

With U_n ``(T, D)`` the inputs at T positions and g_n ``(T, O)`` the output gradients, the gradient is G_n = g_n^T U_n.
A layer may hand out U_n in R slabs of D / R columns; then G_n is R products side by side.

    instantiate   G_n by batched products on parts that fit the cache, the norm read while it is warm; the sum is w @ G,
                  so it replaces the ordinary weight gradient
    ghost         ||G_n||^2 = <U_n U_n^T, g_n g_n^T> and G is never formed; the sum is one ordinary weight gradient of
                  w_n g_n.  Its terms may cancel, so what rounding can have hidden, about eps |U_n|^2 |g_n|^2, is added:
                  a norm is never read too short, and an example never moves a sum by more than it may

Source: Bu et al. 2023, arXiv 2210.00038 (book-keeping, the choice per layer); Li et al. 2022, arXiv 2110.05679 (ghost)
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

__all__ = ["CACHE", "FormedGradients", "LayerGradients", "MatrixGradients", "Products", "spans"]

CACHE = 4 * 2**20
"""Bytes that are worked on at once: what both cores' second-level caches hold (measured)."""


def spans(n: int, each: int) -> Iterator[slice]:
    """Parts of ``n`` examples of ``each`` bytes that fit the cache."""
    step = max(1, CACHE // max(1, each))
    return (slice(start, min(n, start + step)) for start in range(0, n, step))


class LayerGradients(ABC):
    """The gradients of ``n`` examples in the parameters of one layer, in the layer's order of parameters."""

    @abstractmethod
    def squares(self) -> list[Tensor]:
        """Squared norms ``(n,)``, one per parameter."""

    @abstractmethod
    def weighted(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """sum_n w_n G_n per parameter, flat ``(size,)`` or in its shape; ``weights`` holds ``(n,)`` per parameter."""

    @abstractmethod
    def formed(self) -> list[Tensor]:
        """The gradients themselves, ``(n, size)`` per parameter: for parameters that several layers share."""

    @abstractmethod
    def held(self) -> int:
        """Bytes of gradients that it holds."""


class FormedGradients(LayerGradients):
    """Gradients that are small, or shared, and simply there: ``(n, size)`` per parameter, in the order of the layer."""

    def __init__(self, gradients: list[Tensor]) -> None:
        self.gradients = gradients

    def squares(self) -> list[Tensor]:
        """Squared norms ``(n,)``."""
        return [torch.linalg.vector_norm(g, dim=1).square() for g in self.gradients]

    def weighted(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """``(size,)`` each."""
        return [w @ g for w, g in zip(weights, self.gradients, strict=True)]

    def formed(self) -> list[Tensor]:
        """As they are."""
        return self.gradients

    def held(self) -> int:
        """All of them."""
        return sum(g.numel() * g.element_size() for g in self.gradients)


class Products(ABC):
    """The input of a layer that multiplies by a matrix; ``parts`` (the groups) split D and O alike."""

    parts: int = 1
    slabs: int = 1
    d: int
    """D: inputs under one position, of one part."""

    @abstractmethod
    def patches(self, part: slice) -> list[Tensor]:
        """U of some examples, one ``(b * parts, T, D / R)`` for each of R slabs."""

    @abstractmethod
    def grams(self, part: slice) -> Tensor:
        """U U^T of some examples, ``(b * parts, T, T)``."""

    @abstractmethod
    def ordinary(self, weights: Tensor) -> Tensor:
        """sum_n w_n G_n in the weight's shape, without forming any G_n."""

    @abstractmethod
    def in_place(self, rows: Tensor) -> Tensor:
        """``rows (R, k, parts * O * D / R)`` of formed gradients in the weight's own order, ``(k, size)``."""


class MatrixGradients(LayerGradients):
    """A weight with T positions per example, and perhaps a bias.

    ``g (n * parts, T, O)``; ``bias (n, outputs)`` is its per-example gradient or None; ``buffer`` provides memory
    ``(R, n, parts * O * D / R)`` for that many examples' gradients, the same at every step: fresh pages cost more than
    the products.
    """

    def __init__(
        self,
        products: Products,
        g: Tensor,
        bias: Tensor | None,
        ghost: bool,
        each: int,
        buffer: Callable[[int], Tensor],
    ) -> None:
        self.products, self.g, self.bias, self.each, self.buffer = products, g, bias, each, buffer
        self.n = len(g) // products.parts
        self._gradients: Tensor | None = None
        self._squares = self._ghost() if ghost else self._instantiate()

    def squares(self) -> list[Tensor]:
        """Weight, then bias."""
        return [self._squares, *([] if self.bias is None else [self.bias.square().sum(1)])]

    def weighted(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Weight, then bias."""
        if self._gradients is None:
            first = self.products.ordinary(weights[0])
        else:
            first = self.products.in_place((weights[0] @ self._gradients)[:, None])[0]
        return [first, *([] if self.bias is None else [weights[1] @ self.bias])]

    def formed(self) -> list[Tensor]:
        """Weight, then bias."""
        if self._gradients is None:
            self._instantiate()
        assert self._gradients is not None
        return [self.products.in_place(self._gradients), *([] if self.bias is None else [self.bias])]

    def held(self) -> int:
        """None if they are never formed."""
        return 0 if self._gradients is None else self._gradients.numel() * self._gradients.element_size()

    def _of(self, part: slice) -> Tensor:
        parts = self.products.parts
        return self.g[part.start * parts : part.stop * parts]

    def _instantiate(self) -> Tensor:
        into, squares = self.buffer(self.n), []
        shape = (-1, self.g.shape[2], into.shape[2] // (self.products.parts * self.g.shape[2]))
        for part in spans(self.n, self.each):
            g = self._of(part).transpose(1, 2)
            rows = into[:, part]
            for slab, patches in zip(rows, self.products.patches(part), strict=True):
                torch.bmm(g, patches, out=slab.view(shape))
            squares.append(torch.linalg.vector_norm(rows, dim=2).square_().sum(0))
        self._gradients = into
        return torch.cat(squares)

    def _ghost(self) -> Tensor:
        if self.g.shape[1] == 1:  # One position: the two Gram matrices are numbers.
            inputs = [patches.square().sum((1, 2)) for patches in self.products.patches(slice(0, self.n))]
            squares = self.g.square().sum((1, 2)) * functools.reduce(torch.add, inputs)
            return squares.view(-1, self.products.parts).sum(1)
        sums = []
        for part in spans(self.n, self.each):
            g = self._of(part)
            gram, other = self.products.grams(part), torch.bmm(g, g.transpose(1, 2))
            both = torch.linalg.vecdot(gram.flatten(1), other.flatten(1)).clamp_min(0)
            most = _traces(gram) * _traces(other)
            sums.append(torch.add(both, most, alpha=self._rounding()).view(-1, self.products.parts).sum(1))
        return torch.cat(sums)

    def _rounding(self) -> float:
        """How far a ghost norm may be off, as a share of |U|^2 |g|^2: sums of T^2, D and O rounded terms."""
        t, o = self.g.shape[1:]
        return torch.finfo(self.g.dtype).eps * math.sqrt(t * t + o + self.products.d)


def _traces(grams: Tensor) -> Tensor:
    """``(n,)``: |U|^2 from U U^T."""
    return grams.diagonal(dim1=1, dim2=2).sum(1)
