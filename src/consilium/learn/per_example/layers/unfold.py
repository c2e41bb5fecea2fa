"""The inputs of a convolution, and their patches, which are never formed.

U_n holds the patch under each of the T output pixels, D = kernel * channels / groups, channels last.  The image is
unfolded along all axes but the first.  In that strip the rows that one position r of the kernel's first axis covers
over all outputs are consecutive, so the slab U_n[:, r] is a view of it:

    strip[p, j, ...] = patches along the other axes in row s j + p        s the stride, d the dilation
    U_n[(y, ...), r] = strip[d r mod s, y + d r div s, ...]

A copy of up to R times fewer numbers than the patches, R being the kernel's first extent.

The Gram matrix of the patches is a sum of kernel-many shifted windows of the Gram matrix of the PIXELS, so a ghost norm
needs no patches where these are fewer:

    (U U^T)[t, t'] = sum over k of (a a^T)[s t + d k, s t' + d k]

Source: Rochette et al. 2019, arXiv 1912.06015 (per-example convolutions); Bu et al. 2022, arXiv 2205.10683 (ghost)
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consilium.learn.per_example.layer_rule import LayerCall

__all__ = ["Convolution", "Images", "images_of", "padded"]

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


def images_of(layer: Convolution, calls: Sequence[LayerCall], n: int) -> list[Images]:
    """All calls, those of one size together."""
    dtype = layer.weight.dtype
    sizes: dict[torch.Size, list[LayerCall]] = {}
    for call in calls:
        sizes.setdefault(call.input.shape[1:], []).append(call)
    return [
        Images(
            layer,
            _joined([call.input.to(dtype) for call in same], n),
            _joined([call.output_gradient.to(dtype) for call in same], n),
            n,
        )
        for same in sizes.values()
    ]


def _joined(rows: list[Tensor], n: int) -> Tensor:
    """``(n * k, ...)`` with the k rows of an example, of all calls, one after the other."""
    return rows[0] if len(rows) == 1 else torch.cat([r.reshape(n, -1, *r.shape[1:]) for r in rows], 1).flatten(0, 1)


class Images:
    """Inputs of one size: ``plain (n * k, channels, *size)`` and ``g (n * k, outputs, *out)`` the output gradient."""

    def __init__(self, layer: Convolution, plain: Tensor, g: Tensor, n: int) -> None:
        self.layer, self.plain, self.g, self.n, self.k = layer, plain, g, n, len(plain) // n
        sides = layer._reversed_padding_repeated_twice
        more = [before + after for before, after in zip(sides[::2], sides[1::2], strict=True)]
        self.size = [s + m for s, m in zip(plain.shape[2:], reversed(more), strict=True)]
        self.out = list(g.shape[2:])
        # A line is an image of one row: the kernel's only extent is unfolded, and there is one slab.
        self.folded = len(self.out) > 1
        one = [] if self.folded else [1]
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
        return (g.transpose(1, 2) if self.folded else g).reshape(self.n, -1, self.g.shape[1])

    def slabs(self, part: slice, groups: int) -> list[Tensor]:
        """``(b * groups, T, D / R)`` for each of the R positions along the kernel's first axis."""
        b, c, step = part.stop - part.start, self.layer.in_channels, self._stride[0]
        a = self.padded(part, max(0, step * self._rows - self.size[0]) if self.folded else 0)
        rows = a.shape[1:-1] if self.folded else (1, *a.shape[1:-1])
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
        slabs = []
        for r in range(self._kernel[0]):
            down, phase = divmod(self._dilation[0] * r, step)
            start = (phase * self._rows + down) * line
            slabs.append(strip[:, start : start + self._out[0] * line])
        return slabs

    def gram(self, part: slice) -> Tensor:
        """U U^T put together from that of pixels, ``(b, T, T)``."""
        b, r = part.stop - part.start, len(self.out)
        a = self.padded(part).view(b, -1, self.layer.in_channels)
        gram = torch.bmm(a, a.transpose(1, 2)).view(b, self.k, *self.size, self.k, *self.size)
        windows = [gram[(slice(None), slice(None), *w, slice(None), *w)] for w in _windows(self.layer, self.out)]
        total = functools.reduce(Tensor.add_, windows[1:], windows[0].clone(memory_format=torch.contiguous_format))
        ordered = total.transpose(1, 2).transpose(2 + r, 3 + r) if self.folded else total
        return ordered.reshape(b, self.k * math.prod(self.out), -1)


def padded(a: Tensor, layer: Convolution, more: int = 0) -> Tensor:
    """``a (n, channels, *size)`` with the padding of ``layer`` around it, and ``more`` rows of zeros after that."""
    sides = list(layer._reversed_padding_repeated_twice)
    if any(sides) and layer.padding_mode != "zeros":
        a = F.pad(a, sides, layer.padding_mode)
        sides = [0] * len(sides)
    sides[-1] += more
    return F.pad(a, sides) if any(sides) else a


def _last(x: Tensor) -> Tensor:
    """Channels last; as movedim, in a third of its time."""
    return x.permute(0, *range(2, x.dim()), 1)


def _windows(layer: Convolution, out: Sequence[int]) -> list[tuple[slice, ...]]:
    """For each position in the kernel, the pixels that it covers over all outputs."""
    axes = []
    for axis, extent in enumerate(out):
        s, d = layer.stride[axis], layer.dilation[axis]
        axes.append([slice(d * k, d * k + s * (extent - 1) + 1, s) for k in range(layer.kernel_size[axis])])
    return list(itertools.product(*axes))
