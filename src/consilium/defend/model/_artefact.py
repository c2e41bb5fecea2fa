"""What is stored of a module: its tensors end to end, one flat tensor per dtype.

Few tensors keep the file's header small (a name costs more than a small layer's scales); names and shapes come back
from the structure that the recipe builds.  Int8 layers give their codes and one float32 scale per output channel;
their zero points are 0, because int8 weights are symmetric.  Embeddings give codes, and per word a scale and a zero
point that are floats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from consilium.core.errors import Failed, Refused

from ._fx import embedded, weighted

__all__ = ["collect", "fill_artefact", "joined", "split"]

_NUMBERS = {"scale": torch.float32, "zero_point": torch.int32}


def collect(module: nn.Module) -> dict[str, Tensor]:
    """Every number in ``module``, by name: parameters, buffers, int8 codes and scales, activation ranges."""
    return {f"{path}.{name}": tensor for path, layer in module.named_modules() for name, tensor in _own(layer)}


def fill_artefact(module: nn.Module, named: Mapping[str, Tensor]) -> nn.Module:
    """``module`` holding ``named``, which :func:`collect` took from a module of the same structure."""
    for path, layer in module.named_modules():
        tensors = {name: named[f"{path}.{name}"] for name, _ in _own(layer)}
        if weighted(layer):
            _set_weight(layer, tensors)
        if embedded(layer):
            _set_embedding(layer, tensors)
        for name in _NUMBERS:
            if name in tensors and not isinstance(getattr(layer, name), Tensor):
                setattr(layer, name, tensors[name].item())
        with torch.no_grad():
            for name, tensor in _plain(layer):
                tensor.copy_(tensors[name])
    return module


def joined(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One flat tensor per dtype, named after it, in the order of ``named``."""
    kinds = dict.fromkeys(t.dtype for t in named.values())
    return {
        str(k).removeprefix("torch."): torch.cat([t.flatten() for t in named.values() if t.dtype == k]) for k in kinds
    }


def split(flat: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`joined`, with the names and shapes of ``like``; refused if the sizes differ.

    Raises Refused: the sizes differ.
    """
    out: dict[str, Tensor] = {}
    for kind in dict.fromkeys(t.dtype for t in like.values()):
        mine = {name: t for name, t in like.items() if t.dtype == kind}
        stored = flat.get(str(kind).removeprefix("torch."))
        if stored is None or stored.dtype != kind or stored.numel() != sum(t.numel() for t in mine.values()):
            raise Refused("the stored model does not fit the structure that its recipe builds", remedy="train it again")
        parts = torch.split(stored, [t.numel() for t in mine.values()])
        out |= {name: part.view(t.shape) for (name, t), part in zip(mine.items(), parts, strict=True)}
    return out


def _own(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    if weighted(layer):
        yield from _weight(layer)
    if embedded(layer):
        yield from _embedding(layer)
    for name, dtype in _NUMBERS.items():
        number = getattr(layer, name, None)
        if isinstance(number, (int, float)):
            yield name, torch.tensor(number, dtype=dtype)
    yield from _plain(layer)


def _plain(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
        yield name, tensor.detach()


def _weight(layer: Any) -> Iterator[tuple[str, Tensor]]:
    weight, bias = layer.weight(), layer.bias()
    channels = weight.qscheme() in (torch.per_channel_affine, torch.per_channel_symmetric)
    scales = weight.q_per_channel_scales() if channels else torch.tensor([weight.q_scale()], dtype=torch.float64)
    zeros = weight.q_per_channel_zero_points() if channels else torch.tensor([weight.q_zero_point()])
    if zeros.any() or not torch.equal(scales.float().double(), scales.double()):
        raise Failed("int8 weights are not symmetric with float32 scales", remedy="leave out static-int8")
    yield "codes", weight.int_repr()
    yield "scales", scales.float()
    if bias is not None:
        yield "bias", bias.detach()


def _embedding(layer: Any) -> Iterator[tuple[str, Tensor]]:
    weight = layer.weight()
    yield "codes", weight.int_repr()
    yield "scales", weight.q_per_channel_scales().float()
    yield "zeros", weight.q_per_channel_zero_points().float()


def _set_embedding(layer: Any, tensors: Mapping[str, Tensor]) -> None:
    layer.set_weight(torch._make_per_channel_quantized_tensor(tensors["codes"], tensors["scales"], tensors["zeros"], 0))


def _set_weight(layer: Any, tensors: Mapping[str, Tensor]) -> None:
    codes, scales = tensors["codes"], tensors["scales"].double()
    if len(scales) == 1 and layer.weight().qscheme() == torch.per_tensor_affine:
        weight = torch._make_per_tensor_quantized_tensor(codes, scales.item(), 0)
    else:
        zeros = torch.zeros(len(scales), dtype=torch.long)
        weight = torch._make_per_channel_quantized_tensor(codes, scales, zeros, 0)
    bias = tensors.get("bias")
    layer.set_weight_bias(weight, None if bias is None else nn.Parameter(bias.clone(), requires_grad=False))
