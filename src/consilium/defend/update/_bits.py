"""Whole numbers of a few bits each, packed without gaps into bytes: little end first, padding bits zero.

n numbers of w bits  ->  ceil(n w / 8) bytes
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.errors import Refused

__all__ = ["pack_bits", "packed_length", "unpack_bits"]


def packed_length(count: int, width: int) -> int:
    """Bytes that ``count`` numbers of ``width`` bits take."""
    return -(-count * width // 8)


def pack_bits(numbers: Tensor, width: int) -> Tensor:
    """uint8 ``(packed_length(n, width),)`` that holds ``numbers (n,)``, each at least 0 and below 2^width."""
    step = _step(width)
    if step != width:
        places = torch.arange(width, dtype=torch.int32, device=numbers.device)
        numbers = numbers.int()[:, None].bitwise_right_shift(places).bitwise_and(1).reshape(-1)
    cells = torch.nn.functional.pad(numbers.to(torch.uint8), (0, -numbers.numel() % (8 // step))).view(-1, 8 // step)
    return (cells << _shifts(step, numbers.device)).sum(1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, count: int, width: int) -> Tensor:
    """int32 ``(count,)``: what :func:`pack_bits` was given.  Unused bits must be zero: one message, one form.

    Raises Refused: an unused bit is set.
    """
    step = _step(width)
    cells = packed[:, None].bitwise_right_shift(_shifts(step, packed.device)).bitwise_and(2**step - 1).reshape(-1)
    used = count * width // step
    if bool(cells[used:].any()):
        raise Refused("padding bits are not zero", remedy="leave this site out")
    if step == width:
        return cells[:used].int()
    weights = 1 << torch.arange(width, dtype=torch.int32, device=packed.device)
    return (cells[:used].view(count, width).int() * weights).sum(1, dtype=torch.int32)


def _step(width: int) -> int:
    """Bits that are moved together: a whole number where numbers do not straddle bytes, else one bit."""
    return width if 8 % width == 0 else 1


def _shifts(step: int, device: torch.device) -> Tensor:
    return torch.arange(0, 8, step, dtype=torch.uint8, device=device)
