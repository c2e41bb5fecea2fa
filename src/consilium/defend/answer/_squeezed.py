"""A model behind a transformation of its inputs that has no useful gradient: followed straight through (BPDA).

Source: Athalye et al. 2018, Obfuscated Gradients Give a False Sense of Security, arXiv 1802.00420.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["Behind", "FollowedThrough"]


class Behind(nn.Module):
    """x -> model(transform(x))."""

    def __init__(self, transform: Callable[[Tensor], Tensor], model: nn.Module) -> None:
        super().__init__()
        self.transform, self.model = transform, model

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        with torch.no_grad():
            transformed = self.transform(x)
        logits: Tensor = self.model(transformed)
        return logits


class FollowedThrough(nn.Module):
    """The same answers, with the gradient as if the transformation were the identity."""

    def __init__(self, transform: Callable[[Tensor], Tensor], model: nn.Module) -> None:
        super().__init__()
        self.transform, self.model = transform, model

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        with torch.no_grad():
            transformed = self.transform(x.detach())
        # x - x.detach() is exactly zero and carries the gradient.
        logits: Tensor = self.model(transformed + (x - x.detach()))
        return logits
