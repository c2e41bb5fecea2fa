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
from typing import Any

import torch
from torch import Tensor, nn

from consilium.core.errors import Refused
from consilium.core.frozen import Adapter

__all__ = ["LowRank", "with_low_rank"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


_Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


class LowRank(Adapter):
    """``layer``, frozen, and a trained addition of ``rank``, scaled by ``scale``."""

    layer: _Layer

    def __init__(self, layer: _Layer, rank: int, scale: float) -> None:
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
            layer.weight += ((up @ down) * self.scale).view(layer.weight.shape)
        return layer


def with_low_rank(module: nn.Module, rank: int, alpha: float | None, head: str) -> nn.Module:
    """``module``, changed in place: all of it is frozen but its layer ``head`` and additions of at most ``rank``.

    A layer that is used at two places of the module has one addition.  ``alpha`` None scales by one.

    Raises Refused: no layer but the head can have an addition, or one that would shares its weight with another.
    """
    _refuse_shared(module, module.get_submodule(head))
    scale = 1.0 if alpha is None else alpha / rank
    last = module.get_submodule(head)
    module.requires_grad_(False)
    additions: dict[nn.Module, LowRank] = {}
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child is not last and (layer := _adaptable(parent, child)) is not None:
                if child not in additions:
                    additions[child] = LowRank(layer, min(rank, *_sides(layer)), scale)
                setattr(parent, name, additions[child])
    if not additions:
        raise Refused(
            "no layer but the head is linear or a convolution without groups: there is nothing to add to",
            remedy='use train = "head", or a model with such layers',
            where="model.train",
        )
    last.requires_grad_(True)
    return module


def _refuse_shared(module: nn.Module, last: nn.Module) -> None:
    """An addition to one layer of a shared weight would leave the other layer without it."""
    owners: dict[int, tuple[str, nn.Module]] = {}
    for path, layer in module.named_modules():
        for name, p in layer._parameters.items():
            if p is None or not p.numel():
                continue
            here = f"{path}.{name}" if path else name
            place, other = owners.setdefault(p.data_ptr(), (here, layer))
            if place != here and any(one is not last and _adaptable(module, one) for one in (layer, other)):
                raise Refused(
                    f"{here} is one tensor with {place}: a low-rank addition to one layer would separate them",
                    remedy='give every layer its own weight, or use train = "head"',
                    where="model.train",
                )


def _adaptable(parent: nn.Module, child: nn.Module) -> _Layer | None:
    """Exactly torch's layers, called as layers: an attention reads the weight of its output layer without a call."""
    if isinstance(parent, nn.MultiheadAttention):
        return None
    if isinstance(child, nn.Linear) and type(child) is nn.Linear:
        return child
    if isinstance(child, _CONVOLUTIONS) and type(child) in _CONVOLUTIONS and child.groups == 1:
        return child
    return None


def _sides(layer: _Layer) -> tuple[int, int]:
    """Rows and columns of its weight as a matrix: the rank is at most the smaller."""
    return len(layer.weight), layer.weight[0].numel()


def _pair(layer: _Layer, rank: int) -> tuple[_Layer, _Layer]:
    down: _Layer
    up: _Layer
    if isinstance(layer, nn.Linear):
        down, up = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=False)
    else:
        same: dict[str, Any] = {n: getattr(layer, n) for n in ("stride", "padding", "dilation", "padding_mode")}
        make: Any = type(layer)
        down = make(layer.in_channels, rank, layer.kernel_size, bias=False, **same)
        up = make(rank, layer.out_channels, 1, bias=False)
    with torch.no_grad():
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.zeros_(up.weight)
    like = layer.weight.device, layer.weight.dtype
    return down.to(*like), up.to(*like)  # drawn on the CPU, as every first weight is
