"""Clipping styles: the factor that brings the gradient of one example, or of each of its layers, to norm C at most.

    flat        min(1, C / ||g||)                     the whole gradient at once
    per-layer   min(1, C_l / ||g_l||), C_l = C / sqrt(L)   each of L layers; the whole still has norm C at most
    automatic   C / (||g|| + 0.01)                    every gradient is scaled, so C and the learning rate are one knob

A layer is what owns parameters together: a weight and its bias.  A norm that is not finite gets the factor zero.

Source: Abadi et al. 2016, arXiv 1607.00133; McMahan et al. 2018, arXiv 1710.06963 (per layer);
Bu et al. 2023, Automatic Clipping, arXiv 2206.07136
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from consilium.core.errors import Refused

__all__ = ["GAMMA", "Style", "check_style", "factors"]

Style = Literal["flat", "per-layer", "automatic"]

GAMMA = 0.01
"""The stability constant of automatic clipping: a gradient far below it is shrunk rather than blown up."""


def check_style(style: str) -> None:
    """Refuse a style that does not exist."""
    if style not in get_args(Style):
        raise Refused(f"there is no clipping style {style!r}", remedy=f"use one of {', '.join(get_args(Style))}")


def factors(squares: Tensor, style: Style, clip: float) -> Tensor:
    """Factors ``(n, L)`` from the squared norms ``(n, L)`` of every example's gradient in every layer."""
    if style == "per-layer":
        return _at_most(clip / math.sqrt(max(1, squares.shape[1])), squares.sqrt())
    norms = squares.sum(1, keepdim=True).sqrt()
    found = clip / (norms + GAMMA) if style == "automatic" else _at_most(clip, norms)
    return found.where(norms.isfinite(), 0).expand(squares.shape)


def _at_most(clip: float, norms: Tensor) -> Tensor:
    found = (clip / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp(max=1)
    return found.where(norms.isfinite(), 0)
