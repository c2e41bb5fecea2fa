"""Memory for the gradients of one layer, reused at every step: the system would zero freed memory again."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["BufferPool"]


class BufferPool:
    """The largest block requested so far."""

    def __init__(self) -> None:
        self._block: Tensor | None = None

    def lend(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """``shape``, not initialised, of the type and on the device of ``like``; good until the next loan."""
        block, size = self._block, math.prod(shape)
        if block is None or block.numel() < size or block.dtype != like.dtype or block.device != like.device:
            block = self._block = torch.empty(size, dtype=like.dtype, device=like.device)
        return block[:size].view(shape)
