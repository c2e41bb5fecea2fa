"""Convolutions in one, two or three dimensions with any stride, dilation, padding and groups.

U_n holds the patch under each of the T output pixels, D = kernel * channels / groups, channels last: a patch is a copy
of contiguous runs.  The Gram matrix of the patches is a sum of kernel-many shifted windows of the Gram matrix of the
PIXELS, so the ghost norm needs no patches where these are fewer:

    (U U^T)[t, t'] = sum over k of (a a^T)[s t + d k, s t' + d k]       s the stride, d the dilation

Source: Rochette et al. 2019, arXiv 1912.06015 (per-example convolutions); Bu et al. 2022, arXiv 2205.10683 (ghost)
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cost import ghost_is_cheaper
from .kept import Kept
from .pieces import Matrix, Products
from .rule import Rule, Use

__all__ = ["Convolution", "ConvolutionRule", "padded"]

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


class ConvolutionRule(Rule):
    """``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d``."""

    layer: Convolution

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        self._kept = Kept()

    @staticmethod
    def covers(layer: nn.Module) -> bool:
        """Exactly torch's own; transposed ones go by vmap."""
        return type(layer) in get_args(Convolution)

    def piece(self, uses: Sequence[Use], n: int) -> Matrix:
        """Uses of whatever size are joined along the output pixels."""
        images = [_Images(self.layer, use.a, use.g, n) for use in uses]
        products = _Patches(self.layer, images)
        g = products.returned()
        t, o, d = g.shape[1], g.shape[2], products.d
        groups = self.layer.groups
        pixels = products.pixels()
        few = pixels is not None and pixels**2 < t * t * math.prod(self.layer.kernel_size)
        gram = (pixels**2 if few and pixels else t * t * math.prod(self.layer.kernel_size)) * images[0].channels
        extra = 0.25 * t * t * math.prod(self.layer.kernel_size) if few else 0.1 * t * d
        ghost = groups == 1 and ghost_is_cheaper(n, t, d, o, gram, extra)
        products.by_pixels = few
        each = g.element_size() * groups * (t * d if not ghost else max(t, pixels or 0) ** 2 if few else t * (t + d))
        bias = products.summed() if self.layer.bias is not None else None
        like = images[0].plain
        return Matrix(products, g, bias, ghost, each, lambda count: self._kept.lend(count, groups * o * d, like))


class _Images:
    """One use: the input and the gradient of the output, ``(n * k, channels, *size)``, and that with channels last."""

    def __init__(self, layer: Convolution, a: Tensor, g: Tensor, n: int) -> None:
        dtype, self.layer = layer.weight.dtype, layer
        self.n, self.channels = n, layer.in_channels
        self.plain = a.to(dtype)
        self.g_first = g.to(dtype)
        self.g = self.g_first.movedim(1, -1).contiguous()
        self.k = len(a) // n

    @property
    def shape(self) -> tuple[tuple[int, ...], torch.Size]:
        """Of one padded input and one output, without examples and channels."""
        sides = self.layer._reversed_padding_repeated_twice
        more = [before + after for before, after in zip(sides[::2], sides[1::2], strict=True)]
        return tuple(s + m for s, m in zip(self.plain.shape[2:], reversed(more), strict=True)), self.g.shape[1:-1]

    def padded(self, part: slice) -> Tensor:
        """The input of some examples, padded, channels last: made anew for each part, while it is in the cache."""
        return padded(self.plain[part.start * self.k : part.stop * self.k], self.layer).movedim(1, -1).contiguous()


class _Patches(Products):
    """The patches of all uses."""

    def __init__(self, layer: Convolution, images: list[_Images]) -> None:
        self.layer, self.images, self.parts = layer, images, layer.groups
        self.d = math.prod(layer.kernel_size) * layer.in_channels // layer.groups
        self.by_pixels = False

    def returned(self) -> Tensor:
        """g of all uses: ``(n * groups, T, O)``."""
        rows = [self._grouped(i.g.view(i.n, -1, 1, self.layer.out_channels)) for i in self.images]
        return rows[0] if len(rows) == 1 else torch.cat(rows, 1)

    def summed(self) -> Tensor:
        """The bias's gradients, ``(n, out)``."""
        sums = [i.g.view(i.n, -1, self.layer.out_channels).sum(1) for i in self.images]
        return functools.reduce(Tensor.add_, sums[1:], sums[0])

    def patches(self, part: slice) -> Tensor:
        """``(b * groups, T, D)``."""
        kernel = math.prod(self.layer.kernel_size)
        rows = []
        for i in self.images:
            found = _unfolded(i.padded(part), self.layer)
            rows.append(self._grouped(found.reshape(part.stop - part.start, -1, kernel, self.layer.in_channels)))
        return rows[0] if len(rows) == 1 else torch.cat(rows, 1)

    def pixels(self) -> int | None:
        """Padded pixels of one example; None if its uses differ in size."""
        if any(i.shape != self.images[0].shape for i in self.images):
            return None
        return sum(i.k for i in self.images) * math.prod(self.images[0].shape[0])

    def grams(self, part: slice) -> Tensor:
        """Of patches, or put together from that of pixels."""
        if not self.by_pixels:
            u = self.patches(part)
            return torch.bmm(u, u.transpose(1, 2))
        size, out = self.images[0].shape
        b = part.stop - part.start
        rows = [i.padded(part).view(b, -1, i.channels) for i in self.images]
        a = rows[0] if len(rows) == 1 else torch.cat(rows, 1)
        gram = torch.bmm(a, a.transpose(1, 2))
        k = a.shape[1] // math.prod(size)
        gram = gram.view(b, k, *size, k, *size)
        windows = [gram[(slice(None), slice(None), *w, slice(None), *w)] for w in _windows(self.layer, out)]
        total = functools.reduce(Tensor.add_, windows[1:], windows[0].clone(memory_format=torch.contiguous_format))
        return total.view(b, k * math.prod(out), -1)

    def ordinary(self, weights: Tensor) -> Tensor:
        """One weight gradient of w_n g_n, as autograd makes it."""
        layer = self.layer
        total: Tensor | None = None
        for i in self.images:
            w = weights if i.k == 1 else weights.repeat_interleave(i.k)
            scaled = i.g_first * w.view(-1, *[1] * (i.g_first.dim() - 1))
            simple = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
            a, padding = (
                (i.plain, layer.padding) if simple else (padded(i.plain, layer), (0,) * len(layer.kernel_size))
            )
            found: Tensor = torch.ops.aten.convolution_backward(
                scaled, a, layer.weight.detach(), None, layer.stride, padding, layer.dilation, False,
                [0] * len(layer.kernel_size), layer.groups, [False, True, False],
            )[1]  # fmt: skip
            total = found if total is None else total.add_(found)
        assert total is not None
        return total

    def in_place(self, rows: Tensor) -> Tensor:
        """From (groups * O, *kernel, channels) to (out, channels, *kernel)."""
        shape = (len(rows), self.layer.out_channels, math.prod(self.layer.kernel_size), -1)
        return rows.view(shape).transpose(2, 3).flatten(1)

    def _grouped(self, rows: Tensor) -> Tensor:
        """``(b, T, K, channels)`` -> ``(b * groups, T, K * channels / groups)``."""
        b, t, k, c = rows.shape
        if self.parts == 1:
            return rows.reshape(b, t, k * c)
        split = rows.view(b, t, k, self.parts, c // self.parts).permute(0, 3, 1, 2, 4)
        return split.reshape(b * self.parts, t, -1)


def padded(a: Tensor, layer: Convolution) -> Tensor:
    """``a (n, channels, *size)`` with the padding of ``layer`` around it."""
    sides = layer._reversed_padding_repeated_twice
    if not any(sides):
        return a
    return F.pad(a, sides, "constant" if layer.padding_mode == "zeros" else layer.padding_mode)


def _unfolded(a: Tensor, layer: Convolution) -> Tensor:
    """Patches of ``a (rows, *size, channels)``, contiguous: ``(rows, *out, *kernel, channels)``."""
    rows, *size, c = a.shape
    sizes, strides = [rows], [a.stride(0)]
    for axis, extent in enumerate(size):
        reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        sizes.append((extent - reach - 1) // layer.stride[axis] + 1)
        strides.append(a.stride(axis + 1) * layer.stride[axis])
    for axis in range(len(size)):
        sizes.append(layer.kernel_size[axis])
        strides.append(a.stride(axis + 1) * layer.dilation[axis])
    return a.as_strided([*sizes, c], [*strides, 1], a.storage_offset())


def _windows(layer: Convolution, out: Sequence[int]) -> list[tuple[slice, ...]]:
    """For each position in the kernel, the pixels that it meets over all outputs."""
    axes = []
    for axis, extent in enumerate(out):
        s, d = layer.stride[axis], layer.dilation[axis]
        axes.append([slice(d * k, d * k + s * (extent - 1) + 1, s) for k in range(layer.kernel_size[axis])])
    return list(itertools.product(*axes))
