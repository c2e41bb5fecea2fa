"""Convolutions in one, two or three dimensions with any stride, dilation, padding and groups.

Where gradients are instantiated it is one product per position along the kernel's first axis; see ``strip``.

Source: Rochette et al. 2019, arXiv 1912.06015 (per-example convolutions); Bu et al. 2022, arXiv 2205.10683 (ghost)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from consilium.learn.per_example.buffer_pool import BufferPool
from consilium.learn.per_example.layer_gradients import MatrixGradients, Products
from consilium.learn.per_example.layer_rule import LayerCall, LayerRule, register

from .cost import ghost_is_cheaper
from .depthwise import DepthwiseRule
from .unfold import Convolution, Images, images_of, padded

__all__ = ["ConvolutionRule"]


@register(*get_args(Convolution))
class ConvolutionRule(LayerRule):
    """``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d``."""

    layer: Convolution

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        self._pool = BufferPool()

    @staticmethod
    def covers(layer: nn.Module) -> bool:
        """All but depthwise ones; transposed ones go by vmap."""
        return not DepthwiseRule.covers(layer)

    def gradients(self, calls: Sequence[LayerCall], n: int) -> MatrixGradients:
        """Calls of one size are more images of an example; those of another are joined along the output pixels."""
        images = images_of(self.layer, calls, n)
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
        bias = g.sum(1).view(n, -1) if self.layer.bias is not None else None
        size = groups * o * d // products.slabs
        like = images[0].plain
        return MatrixGradients(
            products, g, bias, ghost, each, lambda count: self._pool.lend((products.slabs, count, size), like)
        )


class _Patches(Products):
    """The patches of all calls."""

    def __init__(self, layer: Convolution, images: list[Images]) -> None:
        self.layer, self.images, self.parts = layer, images, layer.groups
        self.d = math.prod(layer.kernel_size) * layer.in_channels // layer.groups
        self.slabs = layer.kernel_size[0] if images[0].folded else 1
        self.by_pixels = False

    def returned(self) -> Tensor:
        """g of all calls: ``(n * groups, T, O)``."""
        g = _along([i.returned() for i in self.images])
        if self.parts == 1:
            return g
        split = g.view(len(g), g.shape[1], self.parts, -1).transpose(1, 2)
        return split.reshape(len(g) * self.parts, g.shape[1], -1)

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
            gradient: Tensor = torch.ops.aten.convolution_backward(
                scaled, a, layer.weight.detach(), None, layer.stride, padding, layer.dilation, False,
                [0] * len(layer.kernel_size), layer.groups, [False, True, False],
            )[1]  # fmt: skip
            total = gradient if total is None else total.add_(gradient)
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


def _along(rows: list[Tensor]) -> Tensor:
    """Joined along the positions."""
    return rows[0] if len(rows) == 1 else torch.cat(rows, 1)
