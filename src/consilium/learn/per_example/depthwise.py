"""Depthwise convolutions: every input channel has filters of its own, so there is no product over channels to batch.

The gradient of a filter is the correlation of its input channel with what came back, stride and dilation changing
places.  That is a convolution again, in which examples and channels alike are groups:

    G[n, o, k] = sum over t of a[n, channel of o, s t + d k] g[n, o, t]       s the stride, d the dilation

Source: Rochette et al. 2019, arXiv 1912.06015 (per-example gradients of convolutions as one grouped convolution)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch.nn.functional as F
from torch import Tensor, nn

from .pieces import Formed
from .rule import Rule, Use, per_example
from .strip import Convolution, padded

__all__ = ["DepthwiseRule"]

_CORRELATE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class DepthwiseRule(Rule):
    """``nn.Conv1d``, ``nn.Conv2d`` and ``nn.Conv3d`` with as many groups, more than one, as input channels."""

    layer: Convolution

    @staticmethod
    def covers(layer: nn.Module) -> bool:
        """Exactly torch's own."""
        if not isinstance(layer, Convolution) or type(layer) not in get_args(Convolution):
            return False
        return layer.groups == layer.in_channels > 1

    def piece(self, uses: Sequence[Use], n: int) -> Formed:
        """Weight, then bias: they are small, so they are formed."""
        found = [[self._filters(use) for use in uses]]
        if self.layer.bias is not None:
            found.append([use.g.to(self.layer.weight.dtype).flatten(2).sum(2) for use in uses])
        return Formed([per_example(rows, n) for rows in found])

    def _filters(self, use: Use) -> Tensor:
        """Of every row, in the weight's order: ``(rows, size)``."""
        layer, dtype = self.layer, self.layer.weight.dtype
        a, g = padded(use.a.to(dtype), layer), use.g.to(dtype)
        rows, channels = a.shape[:2]
        correlate = _CORRELATE[a.dim() - 2]
        found = correlate(
            a.reshape(1, rows * channels, *a.shape[2:]), g.reshape(-1, 1, *g.shape[2:]),
            stride=layer.dilation, dilation=layer.stride, groups=rows * channels,
        )  # fmt: skip
        for axis, extent in enumerate(layer.kernel_size):  # Inputs that no output reaches answer past the kernel.
            found = found.narrow(axis + 2, 0, extent)
        return found.reshape(rows, -1)
