"""Whole numbers of a few bits each, packed without gaps into bytes: little end first, padding bits zero.

n numbers of w bits  ->  ceil(n w / 8) bytes
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.errors import Refused

__all__ = ["pack", "packed_length", "unpack"]


def packed_length(count: int, width: int) -> int:
    """Bytes that ``count`` numbers of ``width`` bits take."""
    return -(-count * width // 8)


def pack(numbers: Tensor, width: int) -> Tensor:
    """uint8 ``(packed_length(n, width),)`` that holds ``numbers (n,)``, each at least 0 and below 2^width."""
    places = torch.arange(width, dtype=torch.int32, device=numbers.device)
    bits = numbers.to(torch.int32)[:, None].bitwise_right_shift(places).bitwise_and(1).to(torch.uint8).reshape(-1)
    bits = torch.nn.functional.pad(bits, (0, -bits.numel() % 8)).view(-1, 8)
    return (bits << torch.arange(8, dtype=torch.uint8, device=bits.device)).sum(1, dtype=torch.uint8)


def unpack(packed: Tensor, count: int, width: int) -> Tensor:
    """int32 ``(count,)``: what :func:`pack` was given.  Bits that no number has must be zero: one message, one form."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    bits = packed[:, None].bitwise_right_shift(places).bitwise_and(1).reshape(-1)
    if bool(bits[count * width :].any()):
        raise Refused("padding bits are not zero", remedy="leave this site out")
    weights = 1 << torch.arange(width, dtype=torch.int32, device=packed.device)
    return (bits[: count * width].view(count, width).to(torch.int32) * weights).sum(1, dtype=torch.int32)
