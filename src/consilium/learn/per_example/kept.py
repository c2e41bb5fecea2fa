"""Memory for the gradients of one layer, lent again at every step: the system takes back and zeroes what is freed."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Kept"]


class Kept:
    """The largest block asked for so far."""

    def __init__(self) -> None:
        self._block: Tensor | None = None

    def lend(self, n: int, size: int, like: Tensor) -> Tensor:
        """``(n, size)``, not initialised, of the type and on the device of ``like``; good until the next loan."""
        block = self._block
        if block is None or block.numel() < n * size or block.dtype != like.dtype or block.device != like.device:
            block = self._block = torch.empty(n * size, dtype=like.dtype, device=like.device)
        return block[: n * size].view(n, size)
