"""Weight standardisation: each filter of a convolution is used with mean 0 and variance 1.

    v_o = (w_o - mean(w_o)) / sqrt(var(w_o) + eps),   over the input channels and the pixels of filter o

It looks at weights alone, so it is lawful under DP.  The gradient is that of w: whatever clips per example must go
through the standardisation, which book-keeping rules for an ordinary convolution do not.

Source: Qiao et al. 2019, Micro-Batch Training with Batch-Channel Normalization and Weight Standardization, arXiv
1903.10520
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["StandardisedConv2d"]


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose filters are standardised before use."""

    def forward(self, x: Tensor) -> Tensor:
        """``(n, out, h', w')``."""
        out: Tensor = self._conv_forward(x, self._filters(), self.bias)
        return out

    def plain(self) -> nn.Conv2d:
        """An ordinary convolution with the filters as they are used now: for a model that is not trained further."""
        layer = copy.copy(self)
        layer.__class__ = nn.Conv2d  # type: ignore[assignment]
        layer._parameters = {**self._parameters, "weight": nn.Parameter(self._filters().detach(), requires_grad=False)}
        return layer

    def _filters(self) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), correction=0, keepdim=True)
        filters: Tensor = (self.weight - mean) * (variance + 1e-5).rsqrt()
        return filters
