"""Inner products and squared distances of vectors, in float64 and by blocks of coordinates.

    ||x_i - x_j||^2 = G_ii + G_jj - 2 G_ij          G = X X^T, summed over blocks

Rules that need distances, angles or weights alone work on these ``(n, n)`` numbers, whatever the size of the model.
The difference loses digits where vectors are much closer to each other than to zero: 1e-15 of their squared length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._payloads import blocks

__all__ = ["cosines", "inner_products", "squared_distances"]


def inner_products(tensors: Sequence[Tensor], origin: Tensor | None = None) -> Tensor:
    """G ``(n, n)`` in float64, symmetric to the last bit; of the differences to ``origin`` where there is one."""
    n = len(tensors)
    total = torch.zeros(n, n, dtype=torch.float64, device=tensors[0].device)
    for here, block in blocks(tensors):
        wide = block.double()
        if origin is not None:
            wide -= origin.reshape(-1)[here].double()
        total += wide @ wide.T
    return torch.triu(total) + torch.triu(total, 1).T


def squared_distances(gram: Tensor) -> Tensor:
    """``(n, n)`` of the inner products ``gram``: not negative, and 0 of a vector to itself."""
    squares = gram.diagonal()
    distances = (squares[:, None] + squares[None, :] - 2 * gram).clamp(min=0)
    return distances.fill_diagonal_(0)


def cosines(gram: Tensor) -> Tensor:
    """``(n, n)`` of the inner products ``gram``: at most 1, 0 beside a vector of zeros, 1 of any other to itself."""
    lengths = gram.diagonal().sqrt()
    products = lengths[:, None] * lengths[None, :]
    return torch.where(products > 0, gram / products, 0).clamp(-1, 1)
