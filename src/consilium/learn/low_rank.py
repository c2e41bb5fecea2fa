"""Low-rank additions to layers that stay as they were: few parameters to train, and none more in what is released.

    y = W x + b + (alpha / r) B A x,   A (r, in) drawn, B (out, r) zero at the start;   released as W + (alpha / r) B A

A and B are layers of their own, so per-example gradients of them are those of linear layers and convolutions.  A
convolution's A has its kernel, stride, padding and dilation, and its B is a convolution of one pixel.  Convolutions in
groups stay without an addition.

Source: Hu et al. 2021, LoRA, arXiv 2106.09685, section 4.1
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from consilium.core.errors import Refused
from consilium.core.frozen import Adapter

__all__ = ["LowRank", "with_low_rank"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class LowRank(Adapter):
    """``layer``, frozen, and a trained addition of ``rank``, scaled by ``scale``."""

    def __init__(self, layer: nn.Module, rank: int, scale: float) -> None:
        super().__init__()
        self.layer, self.scale = layer.requires_grad_(False), scale
        self.down, self.up = _pair(layer, rank)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer answers, with the addition."""
        out: Tensor = self.layer(x) + self.up(self.down(x)) * self.scale
        return out

    def plain(self) -> nn.Module:
        """The layer with the addition in its weight."""
        layer = copy.deepcopy(self.layer)
        down, up = (part.weight.detach().flatten(1) for part in (self.down, self.up))
        with torch.no_grad():
            layer.weight += ((up @ down) * self.scale).view(layer.weight.shape)  # type: ignore[operator]
        return layer


def with_low_rank(module: nn.Module, rank: int, alpha: float | None, head: str) -> nn.Module:
    """``module``, changed in place: all of it is frozen but its layer ``head`` and additions of at most ``rank``.

    A layer that is used at two places of the module has one addition.  ``alpha`` None scales by one.

    Raises Refused: no layer but the head can have an addition.
    """
    scale = 1.0 if alpha is None else alpha / rank
    last = module.get_submodule(head)
    module.requires_grad_(False)
    additions: dict[nn.Module, LowRank] = {}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if child is not last and _takes_addition(parent, child):
                if child not in additions:
                    additions[child] = LowRank(child, min(rank, *_sides(child)), scale)
                setattr(parent, name, additions[child])
    if not additions:
        raise Refused(
            "no layer but the head is linear or a convolution without groups: there is nothing to add to",
            remedy='use train = "head", or a model with such layers',
            where="model.train",
        )
    last.requires_grad_(True)
    return module


def _takes_addition(parent: nn.Module, child: nn.Module) -> bool:
    """Exactly torch's layers, called as layers: an attention reads the weight of its output layer without a call."""
    if isinstance(parent, nn.MultiheadAttention):
        return False
    return type(child) is nn.Linear or (type(child) in _CONVOLUTIONS and child.groups == 1)


def _sides(layer: nn.Module) -> tuple[int, int]:
    """Rows and columns of its weight as a matrix: the rank is at most the smaller."""
    weight = layer.weight
    return len(weight), weight[0].numel()  # type: ignore[arg-type, index]


def _pair(layer: nn.Module, rank: int) -> tuple[nn.Module, nn.Module]:
    weight = layer.weight
    kind: dict[str, object] = {"bias": False, "dtype": weight.dtype}
    down: nn.Module
    up: nn.Module
    if isinstance(layer, nn.Linear):
        down, up = nn.Linear(layer.in_features, rank, **kind), nn.Linear(rank, layer.out_features, **kind)  # type: ignore[arg-type]
    else:
        same = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "padding_mode")}
        make = type(layer)
        down = make(layer.in_channels, rank, layer.kernel_size, **same, **kind)  # type: ignore[call-arg, arg-type]
        up = make(rank, layer.out_channels, 1, **kind)  # type: ignore[call-arg, arg-type]
    with torch.no_grad():
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))  # type: ignore[arg-type]
        nn.init.zeros_(up.weight)  # type: ignore[arg-type]
    return down.to(weight.device), up.to(weight.device)  # drawn on the CPU, as every first weight
