"""How far an input of length 1 can move each channel of a layer: its Lipschitz bound, from weights alone.

    bound_k = sigma_max(W_k) |gamma_k| / std_k        W_k: the filter of channel k as inputs x places

Source: Zheng et al. 2022, Data-free Backdoor Removal based on Channel Lipschitzness, arXiv 2208.03111, section 3.2
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from consilium.learn.standardised import StandardisedConv2d

from ._channels import Channels

__all__ = ["channel_bounds"]


def channel_bounds(module: nn.Module, channels: Channels) -> Tensor:
    """The bounds of one layer of ``module`` and its norm, ``(count,)`` in float64."""
    layer: Any = module.get_submodule(channels.layer)
    plain = layer.plain() if isinstance(layer, StandardisedConv2d) else layer
    weight: Tensor = plain.weight.detach().double()
    filters = weight.reshape(weight.shape[0], weight.shape[1], -1)
    norms: Tensor = torch.linalg.matrix_norm(filters, ord=2)
    if not channels.norm:
        return norms
    norm: Any = module.get_submodule(channels.norm)
    bounds = norms / _deviations(norm, filters)
    if norm.weight is not None:
        bounds = bounds * norm.weight.detach().double().abs()
    return bounds


def _deviations(norm: Any, filters: Tensor) -> Tensor:
    """What ``norm`` divides each channel by, ``(count,)``: measured in training, or expected of white inputs."""
    eps = float(norm.eps)
    running = getattr(norm, "running_var", None)
    if isinstance(running, Tensor):
        return (running.detach().double() + eps).sqrt()
    squares = filters.square().sum((1, 2))
    groups: int = getattr(norm, "num_groups", 1 if isinstance(norm, nn.LayerNorm) else len(squares))
    shared = squares.view(groups, -1).mean(1, keepdim=True).expand(groups, len(squares) // groups)
    return (shared.reshape(-1) + eps).sqrt()
