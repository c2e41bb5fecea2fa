"""Forward as the defended model answers, backward through the model it was built from (BPDA).

Source: Athalye et al. 2018, Obfuscated Gradients Give a False Sense of Security, arXiv 1802.00420.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["StraightThrough"]


class StraightThrough(nn.Module):
    """``hard`` forward to the last bit, the gradient of ``soft`` backward."""

    def __init__(self, hard: nn.Module, soft: nn.Module) -> None:
        super().__init__()
        self.hard, self.soft = hard, soft

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        with torch.no_grad():
            answered: Tensor = self.hard(x.detach())
        followed = self.soft(x)
        # followed - followed.detach() is exactly zero and carries the gradient.
        out: Tensor = answered + (followed - followed.detach())
        return out
