"""Depthwise convolutions: every input channel has filters of its own, so there is no product over channels to batch.

The gradient of a filter is the correlation of its input channel with the output gradient, stride and dilation changing
places.  That is a convolution again, in which examples and channels alike are groups:

    G[n, o, k] = sum over t of a[n, channel of o, s t + d k] g[n, o, t]       s the stride, d the dilation

Source: Rochette et al. 2019, arXiv 1912.06015 (per-example gradients of convolutions as one grouped convolution)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch.nn.functional as F
from torch import Tensor, nn

from consilium.learn.per_example.layer_gradients import FormedGradients
from consilium.learn.per_example.layer_rule import LayerCall, LayerRule, per_example, register

from .unfold import Convolution, padded

__all__ = ["DepthwiseRule"]

_CORRELATE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@register(*get_args(Convolution))
class DepthwiseRule(LayerRule):
    """``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d`` with as many groups, more than one, as input channels."""

    layer: Convolution

    @staticmethod
    def covers(layer: nn.Module) -> bool:
        """Those with one input channel a group."""
        return isinstance(layer, Convolution) and layer.groups == layer.in_channels > 1

    def gradients(self, calls: Sequence[LayerCall], n: int) -> FormedGradients:
        """Weight, then bias: they are small, so they are formed."""
        parts = [[self._filters(call) for call in calls]]
        if self.layer.bias is not None:
            parts.append([call.output_gradient.to(self.layer.weight.dtype).flatten(2).sum(2) for call in calls])
        return FormedGradients([per_example(rows, n) for rows in parts])

    def _filters(self, call: LayerCall) -> Tensor:
        """Of every row, in the weight's order: ``(rows, size)``."""
        layer, dtype = self.layer, self.layer.weight.dtype
        a, g = padded(call.input.to(dtype), layer), call.output_gradient.to(dtype)
        rows, channels = a.shape[:2]
        correlate = _CORRELATE[a.dim() - 2]
        filters = correlate(
            a.reshape(1, rows * channels, *a.shape[2:]), g.reshape(-1, 1, *g.shape[2:]),
            stride=layer.dilation, dilation=layer.stride, groups=rows * channels,
        )  # fmt: skip
        for axis, extent in enumerate(layer.kernel_size):  # Inputs that no output reaches answer past the kernel.
            filters = filters.narrow(axis + 2, 0, extent)
        return filters.reshape(rows, -1)
