"""Convolutions in one, two or three dimensions with any stride, dilation, padding and groups.

U_n holds the patch under each of the T output pixels, D = kernel * channels / groups, channels last.  It is never
formed: the image is unfolded along all axes but the first.  In that strip the rows which one position r of the kernel's
first axis meets over all outputs lie one after the other, so the slab U_n[:, r] is a view of it:

    strip[p, j, ...] = patches along the other axes in row s j + p        s the stride, d the dilation
    U_n[(y, ...), r] = strip[d r mod s, y + d r div s, ...]

A copy of R times fewer numbers than the patches (R the kernel's first extent), then R products.

The Gram matrix of the patches is a sum of kernel-many shifted windows of the Gram matrix of the PIXELS, so the ghost
norm needs no patches where these are fewer:

    (U U^T)[t, t'] = sum over k of (a a^T)[s t + d k, s t' + d k]

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
        """Uses of one size are more images of an example; those of another are joined along the output pixels."""
        images = _images(self.layer, uses, n)
        products = _Patches(self.layer, images)
        g = products.returned()
        t, o, d = g.shape[1], g.shape[2], products.d
        groups, kernel = self.layer.groups, math.prod(self.layer.kernel_size)
        pixels = images[0].pixels if len(images) == 1 else None
        few = pixels is not None and pixels**2 < t * t * kernel
        gram = (pixels**2 if few and pixels else t * t * kernel) * self.layer.in_channels
        extra = 0.25 * t * t * kernel if few else 0.1 * t * d
        ghost = groups == 1 and ghost_is_cheaper(n, t, d, o, gram, extra)
        products.by_pixels = few
        strips = sum(image.strip for image in images)
        each = g.element_size() * (strips if not ghost else max(t, pixels or 0) ** 2 if few else t * t + strips)
        bias = products.summed() if self.layer.bias is not None else None
        size = groups * o * d // products.slabs
        like = images[0].plain
        return Matrix(
            products, g, bias, ghost, each, lambda count: self._kept.lend((products.slabs, count, size), like)
        )


def _images(layer: Convolution, uses: Sequence[Use], n: int) -> list[_Images]:
    """All uses, those of one size together."""
    dtype = layer.weight.dtype
    sizes: dict[torch.Size, list[Use]] = {}
    for use in uses:
        sizes.setdefault(use.a.shape[1:], []).append(use)
    return [
        _Images(layer, _joined([u.a.to(dtype) for u in same], n), _joined([u.g.to(dtype) for u in same], n), n)
        for same in sizes.values()
    ]


def _joined(rows: list[Tensor], n: int) -> Tensor:
    """``(n * k, ...)`` with the k rows of an example, of all uses, one after the other."""
    return rows[0] if len(rows) == 1 else torch.cat([r.reshape(n, -1, *r.shape[1:]) for r in rows], 1).flatten(0, 1)


class _Images:
    """Inputs of one size: ``plain (n * k, channels, *size)`` and ``g (n * k, outputs, *out)`` that came back."""

    def __init__(self, layer: Convolution, plain: Tensor, g: Tensor, n: int) -> None:
        self.layer, self.plain, self.g, self.n, self.k = layer, plain, g, n, len(plain) // n
        sides = layer._reversed_padding_repeated_twice
        more = [before + after for before, after in zip(sides[::2], sides[1::2], strict=True)]
        self.size = [s + m for s, m in zip(plain.shape[2:], reversed(more), strict=True)]
        self.out = list(g.shape[2:])
        # A line is an image of one row: the kernel's only extent is unfolded, and there is one slab.
        one = [1] if len(self.out) == 1 else []
        self._out, self._kernel = one + self.out, one + list(layer.kernel_size)
        self._stride, self._dilation = one + list(layer.stride), one + list(layer.dilation)
        self._rows = self._out[0] + self._dilation[0] * (self._kernel[0] - 1) // self._stride[0]

    @property
    def pixels(self) -> int:
        """Of one example, padded."""
        return self.k * math.prod(self.size)

    @property
    def strip(self) -> int:
        """Numbers in the strip of one example."""
        across = math.prod(self._out[1:]) * math.prod(self._kernel[1:]) * self.layer.in_channels
        return self._stride[0] * self._rows * self.k * across

    def padded(self, part: slice, more: int = 0) -> Tensor:
        """Of some examples, channels last, with ``more`` rows of zeros below: ``(b * k, *size, channels)``."""
        rows = self.plain[part.start * self.k : part.stop * self.k]
        return _last(padded(rows, self.layer, more)).contiguous()

    def returned(self) -> Tensor:
        """``(n, T, outputs)``, T ordered as (first axis, k, other axes)."""
        g = _last(self.g).reshape(self.n, self.k, *self.out, -1)
        return (g if len(self.out) == 1 else g.transpose(1, 2)).reshape(self.n, -1, self.g.shape[1])

    def slabs(self, part: slice, groups: int) -> list[Tensor]:
        """``(b * groups, T, D / R)`` for each of the R positions along the kernel's first axis."""
        b, c, step = part.stop - part.start, self.layer.in_channels, self._stride[0]
        a = self.padded(part, max(0, step * self._rows - self.size[0]) if len(self.out) > 1 else 0)
        rows = a.shape[1:-1] if len(self.out) > 1 else (1, *a.shape[1:-1])
        strides = [c * math.prod(rows[axis + 1 :]) for axis in range(len(rows))]
        image, across = c * math.prod(rows), list(zip(strides[1:], self._stride[1:], strict=True))
        kernel = list(zip(strides[1:], self._dilation[1:], strict=True))
        strip = a.as_strided(
            [b, step, self._rows, self.k, *self._out[1:], *self._kernel[1:], groups, c // groups],
            [self.k * image, strides[0], step * strides[0], image, *(x * s for x, s in across),
             *(x * d for x, d in kernel), c // groups, 1],
        )  # fmt: skip
        width = math.prod(self._kernel[1:]) * c // groups
        strip = (strip.movedim(-2, 1) if groups > 1 else strip).reshape(b * groups, -1, width)
        line = self.k * math.prod(self._out[1:])
        found = []
        for r in range(self._kernel[0]):
            down, phase = divmod(self._dilation[0] * r, step)
            start = (phase * self._rows + down) * line
            found.append(strip[:, start : start + self._out[0] * line])
        return found

    def gram(self, part: slice) -> Tensor:
        """U U^T put together from that of pixels, ``(b, T, T)``."""
        b, r = part.stop - part.start, len(self.out)
        a = self.padded(part).view(b, -1, self.layer.in_channels)
        gram = torch.bmm(a, a.transpose(1, 2)).view(b, self.k, *self.size, self.k, *self.size)
        windows = [gram[(slice(None), slice(None), *w, slice(None), *w)] for w in _windows(self.layer, self.out)]
        total = functools.reduce(Tensor.add_, windows[1:], windows[0].clone(memory_format=torch.contiguous_format))
        ordered = total if r == 1 else total.transpose(1, 2).transpose(2 + r, 3 + r)
        return ordered.reshape(b, self.k * math.prod(self.out), -1)


class _Patches(Products):
    """The patches of all uses."""

    def __init__(self, layer: Convolution, images: list[_Images]) -> None:
        self.layer, self.images, self.parts = layer, images, layer.groups
        self.d = math.prod(layer.kernel_size) * layer.in_channels // layer.groups
        self.slabs = layer.kernel_size[0] if len(layer.kernel_size) > 1 else 1
        self.by_pixels = False

    def returned(self) -> Tensor:
        """g of all uses: ``(n * groups, T, O)``."""
        g = _along([i.returned() for i in self.images])
        if self.parts == 1:
            return g
        split = g.view(len(g), g.shape[1], self.parts, -1).transpose(1, 2)
        return split.reshape(len(g) * self.parts, g.shape[1], -1)

    def summed(self) -> Tensor:
        """The bias's gradients, ``(n, out)``."""
        sums = [i.returned().sum(1) for i in self.images]
        return functools.reduce(Tensor.add_, sums[1:], sums[0])

    def patches(self, part: slice) -> list[Tensor]:
        """One ``(b * groups, T, D / R)`` for each position along the kernel's first axis."""
        each = [i.slabs(part, self.parts) for i in self.images]
        return [_along(list(slabs)) for slabs in zip(*each, strict=True)]

    def grams(self, part: slice) -> Tensor:
        """Of patches, or put together from that of pixels."""
        if self.by_pixels:
            return self.images[0].gram(part)
        first, *others = self.patches(part)
        gram = torch.bmm(first, first.transpose(1, 2))
        for slab in others:
            gram.baddbmm_(slab, slab.transpose(1, 2))
        return gram

    def ordinary(self, weights: Tensor) -> Tensor:
        """One weight gradient of w_n g_n, as autograd makes it."""
        layer = self.layer
        total: Tensor | None = None
        for i in self.images:
            w = weights if i.k == 1 else weights.repeat_interleave(i.k)
            scaled = i.g * w.view(-1, *[1] * (i.g.dim() - 1))
            simple = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
            a, padding = (i.plain, layer.padding) if simple else (padded(i.plain, layer), (0,) * len(layer.kernel_size))
            found: Tensor = torch.ops.aten.convolution_backward(
                scaled, a, layer.weight.detach(), None, layer.stride, padding, layer.dilation, False,
                [0] * len(layer.kernel_size), layer.groups, [False, True, False],
            )[1]  # fmt: skip
            total = found if total is None else total.add_(found)
        assert total is not None
        return total

    def in_place(self, rows: Tensor) -> Tensor:
        """From (R, groups * O, other kernel axes, channels) to (out, channels, *kernel)."""
        shape = (
            self.slabs,
            rows.shape[1],
            self.layer.out_channels,
            math.prod(self.layer.kernel_size) // self.slabs,
            -1,
        )
        return rows.view(shape).permute(1, 2, 4, 0, 3).flatten(1)


def _last(x: Tensor) -> Tensor:
    """Channels last; as movedim, in a third of its time."""
    return x.permute(0, *range(2, x.dim()), 1)


def _along(rows: list[Tensor]) -> Tensor:
    """Joined along the positions."""
    return rows[0] if len(rows) == 1 else torch.cat(rows, 1)


def padded(a: Tensor, layer: Convolution, more: int = 0) -> Tensor:
    """``a (n, channels, *size)`` with the padding of ``layer`` around it, and ``more`` rows of zeros after that."""
    sides = list(layer._reversed_padding_repeated_twice)
    if any(sides) and layer.padding_mode != "zeros":
        a = F.pad(a, sides, layer.padding_mode)
        sides = [0] * len(sides)
    sides[-1] += more
    return F.pad(a, sides) if any(sides) else a


def _windows(layer: Convolution, out: Sequence[int]) -> list[tuple[slice, ...]]:
    """For each position in the kernel, the pixels that it meets over all outputs."""
    axes = []
    for axis, extent in enumerate(out):
        s, d = layer.stride[axis], layer.dilation[axis]
        axes.append([slice(d * k, d * k + s * (extent - 1) + 1, s) for k in range(layer.kernel_size[axis])])
    return list(itertools.product(*axes))
