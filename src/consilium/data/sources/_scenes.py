"""What generated pictures are drawn from: smooth backgrounds, spots, ellipses; one generator, so each run draws alike.

Values are rounded to 1/255 as those of a camera are: rounding of the last bit, which is a processor's own, is lost.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["background", "draws", "ellipses", "grid", "shades", "spots"]


def grid(size: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the pixels' centres, ``(size, size)`` each, from 0 to 1."""
    line = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    return line[:, None].expand(size, size), line[None].expand(size, size)


def draws(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform numbers, float64 ``(count, 1, 1)``."""
    return low + (high - low) * torch.rand(count, 1, 1, generator=generator, dtype=torch.float64)


def background(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Three waves of random direction, ``(count, size, size)`` around 0, at most 0.15."""
    row, column = grid(size)
    waves = torch.zeros(count, size, size, dtype=torch.float64)
    for _ in range(3):
        rows, columns = (draws(count, -1.5, 1.5, generator) for _ in range(2))
        phase = draws(count, 0, 1, generator)
        waves += 0.05 * torch.cos(2 * math.pi * (rows * row + columns * column + phase))
    return waves


def spots(row: Tensor, column: Tensor, width: Tensor | float, size: int) -> Tensor:
    """Round spots with soft edges, 1 in their centres at ``row`` and ``column`` ``(count, 1, 1)``."""
    rows, columns = grid(size)
    return torch.exp(-((rows - row).square() + (columns - column).square()) / (2 * torch.as_tensor(width).square()))


def ellipses(row: Tensor, column: Tensor, radii: tuple[Tensor, Tensor], turn: Tensor, size: int) -> Tensor:
    """Which pixels lie within, bool ``(count, size, size)``; ``turn`` in radians."""
    rows, columns = grid(size)
    down, across = rows - row, columns - column
    along, beside = down * turn.cos() + across * turn.sin(), across * turn.cos() - down * turn.sin()
    return (along / radii[0]).square() + (beside / radii[1]).square() <= 1


def shades(pictures: Tensor) -> Tensor:
    """``(count, size, size)`` clipped to [0, 1], in steps of 1/255, as float32 inputs ``(count, 1, size, size)``."""
    return (pictures.clamp(0, 1) * 255).round().div(255).float()[:, None]
