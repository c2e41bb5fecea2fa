"""A model whose logits are scaled by one factor and shifted by one number per class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Calibrated"]


class Calibrated(nn.Module):
    """``factor * logits + shift``; both are buffers."""

    factor: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, factor: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("factor", factor)
        self.register_buffer("shift", shift)

    @staticmethod
    def unfitted(model: nn.Module, classes: int) -> Calibrated:
        """One that changes nothing."""
        return Calibrated(model, torch.ones(()), torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        out: Tensor = self.model(x) * self.factor + self.shift
        return out
