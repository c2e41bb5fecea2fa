"""The channels of a module's hidden layers, as what is pruned: found by running it, with the norm that scales them.

    layer  z_k = w_k * x + b_k      norm  gamma_k z'_k + beta_k      then the activation

A norm or an activation is that of a layer if it reads exactly the layer's output.  The layer that runs last gives the
answer, and its channels are classes: they are never pruned.  Where a norm follows, a channel is pruned at gamma and
beta: its output is 0, and the statistics that a GroupNorm shares among channels stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from consilium.core.errors import Refused

__all__ = ["Channels", "channel_outputs", "hidden_channels", "silenced"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_NORMS = (*_BATCH_NORMS, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm)
_ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh),
    *(nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid),
)


@dataclass(frozen=True)
class Channels:
    """The ``count`` outputs of the module ``layer`` (names as in ``named_modules``) along ``axis`` of what it gives.

    ``norm`` and ``activation`` are the modules that read them, "" where none does; ``end`` is the last of them all.
    """

    layer: str
    count: int
    axis: int
    norm: str = ""
    activation: str = ""
    end: str = ""

    def names(self, module: nn.Module) -> dict[str, str]:
        """The parameters that scale and shift each channel, as ``weight`` and ``bias``, those that there are.

        They are the norm's where it has any, else the layer's; their first axis is that of the channels.
        """
        normed = self.norm and getattr(module.get_submodule(self.norm), "weight", None) is not None
        path = self.norm if normed else self.layer
        owner, prefix = module.get_submodule(path), f"{path}." if path else ""
        return {name: f"{prefix}{name}" for name in ("weight", "bias") if getattr(owner, name, None) is not None}


def hidden_channels(module: nn.Module, example: Tensor, kind: str) -> tuple[Channels, ...]:
    """Those of the layers that run before the last, in the order in which they run on ``example (n, *shape)``.

    Raises Refused: no layer runs before the last; ``kind`` is the defence that needs one.
    """
    trace = _Trace(module)
    with _hooks(module, trace.saw), torch.no_grad():
        module(example)
    hidden = tuple(trace.layers.values())[:-1]
    if not hidden:
        raise Refused(
            f"{kind} prunes channels of hidden layers, and the model has no linear or convolution layer before its "
            "last",
            remedy=f"use a deeper model, put {kind} before static-int8, or leave it out",
        )
    return hidden


def channel_outputs(module: nn.Module, layers: Sequence[Channels], x: Tensor) -> dict[str, Tensor]:
    """What each of ``layers`` gives in the end for ``x (n, *shape)``, by layer: ``(count, n * places)``."""
    ends = {channels.end: channels for channels in layers}
    outputs: dict[str, Tensor] = {}

    def saw(path: str, _layer: nn.Module, _source: Tensor, output: Tensor) -> None:
        if path in ends and ends[path].layer not in outputs:
            outputs[ends[path].layer] = output.transpose(0, ends[path].axis).flatten(1).clone()

    with _hooks(module, saw), torch.no_grad():
        module(x)
    return outputs


def silenced(module: nn.Module, channels: Channels, gone: Tensor, shifts: bool = True) -> dict[str, Tensor]:
    """Set the channels ``gone``, bool ``(count,)``, to 0 in ``module``; where its parameters were left, by name.

    Without ``shifts`` a channel's bias stays: it becomes that constant.
    """
    trainable: dict[str, Tensor] = {}
    names = channels.names(module)
    for name in names.values() if shifts else list(names.values())[:1]:
        parameter = module.get_parameter(name)
        mask = gone.to(parameter.device).view(-1, *[1] * (parameter.dim() - 1)).expand_as(parameter)
        parameter.data.masked_fill_(mask, 0)
        trainable[name] = ~mask
    norm: Any = module.get_submodule(channels.norm) if channels.norm else None
    mean = getattr(norm, "running_mean", None)
    if shifts and mean is not None and norm.weight is None:
        mean[gone] = 0
    return trainable


class _Trace:
    """Which layer's output each module reads."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.layers: dict[str, Channels] = {}
        self._outputs: dict[int, tuple[Tensor, str]] = {}

    def saw(self, path: str, layer: nn.Module, source: Tensor, output: Tensor) -> None:
        if isinstance(layer, _LAYERS):
            if path not in self.layers:
                axis = -1 if isinstance(layer, nn.Linear) else 1
                self._ends(path, Channels(layer=path, count=layer.weight.shape[0], axis=axis), output)
            return
        _, name = self._outputs.get(id(source), (source, None))
        if name is None:
            return
        channels = self.layers[name]
        if not channels.norm and _scales(layer, channels):
            self._ends(path, replace(channels, norm=path), output)
        elif not channels.activation and isinstance(layer, _ACTIVATIONS):
            self._ends(path, replace(channels, activation=path), output)

    def _ends(self, path: str, channels: Channels, output: Tensor) -> None:
        self.layers[channels.layer] = replace(channels, end=path)
        self._outputs[id(output)] = (output, channels.layer)  # kept alive: an id is of a live object


def _scales(norm: nn.Module, channels: Channels) -> bool:
    """Whether it is a norm with a factor for each channel; a LayerNorm has one for each place of the last axis."""
    if not isinstance(norm, _NORMS) or (isinstance(norm, nn.LayerNorm) and channels.axis != -1):
        return False
    return norm.weight is None or norm.weight.shape == (channels.count,)


@contextmanager
def _hooks(module: nn.Module, saw: Callable[[str, nn.Module, Tensor, Tensor], None]) -> Iterator[None]:
    """Inside, ``saw(path, layer, input, output)`` hears of every layer that maps one tensor to one."""
    handles = []
    for path, layer in module.named_modules():

        def hook(layer: nn.Module, inputs: tuple[object, ...], output: object, path: str = path) -> None:
            if len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                saw(path, layer, inputs[0], output)

        handles.append(layer.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
