"""Stochastic rounding to a grid of 2 s + 1 values between minus and plus a scale: its mean is what was rounded.

    Q(x) = c sgn(x) l / s,    l = floor(a) + Bernoulli(a - floor(a)),    a = s |x| / c,    E Q(x) = x  for |x| <= c

Source: Alistarh et al. 2017, QSGD, arXiv 1610.02132 (section 3)
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._codec import refuse

__all__ = ["round_down_or_up", "value_of"]


def round_down_or_up(x: Tensor, scale: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Codes 0 to 2 ``steps``, int32 ``(n,)``, of ``x (n,)``; ``scale`` is a number or one per coordinate."""
    place = torch.where(scale > 0, x.abs() / scale * steps, 0.0).nan_to_num(0.0).clamp(max=steps)
    low = place.floor()
    up = torch.rand(place.shape, generator=generator, device=place.device) < place - low
    return (torch.where(x < 0, -1, 1) * (low.int() + up.int()) + steps).int()


def value_of(codes: Tensor, scale: Tensor, steps: int) -> Tensor:
    """The numbers that the codes encode, float32; a code above 2 ``steps`` is invalid and refused."""
    if bool((codes > 2 * steps).any()):
        raise refuse("a level is out of range")
    return (codes - steps).float() / steps * scale
