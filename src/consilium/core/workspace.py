"""A live module that is loaded before every use: gradients at given vectors, faster than through ``functional_call``.

Nothing of one call is left for the next: every parameter and buffer is overwritten first, so two sites that use one
workspace share no state.  :class:`Compute` holds the performance knobs; they change how fast the same thing is
computed and how it is rounded, never what is claimed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from .frozen import constant_buffers, frozen_layers, set_mode, trained_parameters

__all__ = ["Compute", "Workspace", "draws_nothing", "pooled_first", "unknown_layers"]

_DETERMINISTIC = {
    "torch.nn.modules.activation": {"MultiheadAttention", "RReLU"},
    "torch.nn.modules.container": set[str](),
    "torch.nn.modules.conv": set[str](),
    "torch.nn.modules.batchnorm": set[str](),
    "torch.nn.modules.flatten": set[str](),
    "torch.nn.modules.instancenorm": set[str](),
    "torch.nn.modules.linear": set[str](),
    "torch.nn.modules.normalization": set[str](),
    "torch.nn.modules.pooling": {"FractionalMaxPool2d", "FractionalMaxPool3d"},
    "torch.nn.modules.sparse": set[str](),
    "torch.nn.modules.upsampling": set[str](),
}
"""Modules of torch whose layers draw no random number in ``forward``, with the exceptions in each."""


@dataclass(frozen=True)
class Compute:
    """How training computes: ``bf16`` autocasts matrix products to bfloat16, weights and sums stay float32;
    ``channels-last`` keeps images as convolutions on CPU read them fastest.
    """

    precision: Literal["fp32", "bf16"] = "fp32"
    layout: Literal["contiguous", "channels-last"] = "contiguous"

    def cast(self, device: torch.device) -> AbstractContextManager[object]:
        """What the forward pass runs in."""
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def laid_out(self, x: Tensor) -> Tensor:
        """``x`` in the requested layout; only images ``(n, c, h, w)`` have one."""
        if self.layout == "contiguous" or x.dim() != 4:
            return x
        return x.contiguous(memory_format=torch.channels_last)


class Workspace:
    """One module, its trained parameters as leaves; frozen ones are constants."""

    def __init__(self, template: nn.Module, compute: Compute) -> None:
        self.module = pooled_first(copy.deepcopy(template))
        self._still = list(frozen_layers(self.module).values())
        set_mode(self.module, True, self._still)
        if _begins_with_group_norm(self.module):
            compute = replace(compute, layout="contiguous")
        if compute.layout == "channels-last":
            # One by one: Module.to refuses a module that also has weights of another rank than images have.  Tensor.to
            # and not contiguous: with one channel both layouts are contiguous, and the strides decide what follows.
            for p in self.module.parameters():
                if p.dim() == 4:
                    p.data = p.data.to(memory_format=torch.channels_last)
        self.compute = compute
        self.leaves = list(trained_parameters(self.module).values())
        still = constant_buffers(self.module)
        self._buffers = [b for name, b in self.module.named_buffers() if name not in still]
        self._sizes = [p.numel() for p in self.leaves]
        self._buffer_sizes = [b.numel() for b in self._buffers]

    def gradient(
        self, params: Tensor, buffers: Tensor, loss: Callable[[Callable[[Tensor], Tensor]], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The gradient ``(d,)`` of a scalar ``loss(predict)`` at ``params (d,)``, and the buffers ``(b,)`` after."""
        return self.joint_gradient(params, buffers, loss)[:2]

    def joint_gradient(
        self,
        params: Tensor,
        buffers: Tensor,
        loss: Callable[[Callable[[Tensor], Tensor]], Tensor],
        *inputs: Tensor,
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """The same of one backward pass that also gives the gradients of ``inputs``, which require them."""
        self.load(params, buffers, training=True)
        wanted = [*self.leaves, *inputs]
        grads = torch.autograd.grad(loss(self.predict), wanted, allow_unused=True, materialize_grads=True)
        value = torch.cat([g.reshape(-1) for g in grads[: len(self.leaves)]])
        if self._buffers:
            buffers = torch.cat([b.detach().reshape(-1).to(buffers.dtype) for b in self._buffers])
        return value, buffers, grads[len(self.leaves) :]

    def answers(self, params: Tensor, buffers: Tensor) -> Callable[[Tensor], Tensor]:
        """x ``(n, *shape)`` -> logits ``(n, classes)`` in fp32, without gradients, until the next use."""
        self.load(params, buffers, training=False)

        @torch.no_grad()
        def answer(x: Tensor) -> Tensor:
            out: Tensor = self.module(self.compute.laid_out(x))
            return out

        return answer

    def predict(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)`` in fp32 at least of x ``(n, *shape)`` at what was loaded last."""
        with self.compute.cast(x.device):
            out: Tensor = self.module(self.compute.laid_out(x))
        return out.float() if out.dtype in {torch.bfloat16, torch.float16} else out

    def followed(self, x: Tensor) -> Tensor:
        """Logits ``(n, classes)`` in the precision of the weights, differentiable, at what was loaded last."""
        out: Tensor = self.module(self.compute.laid_out(x))
        return out

    @torch.no_grad()
    def load(self, params: Tensor, buffers: Tensor, training: bool) -> None:
        """Overwrite every parameter and buffer with ``params (d,)`` and ``buffers (b,)``, and set the mode."""
        if self.module.training != training:
            set_mode(self.module, training, self._still)
        for leaf, piece in zip(self.leaves, torch.split(params, self._sizes), strict=True):
            leaf.copy_(piece.view(leaf.shape))
        if self._buffers:
            for buffer, piece in zip(self._buffers, torch.split(buffers, self._buffer_sizes), strict=True):
                buffer.copy_(piece.view(buffer.shape))


def pooled_first(module: nn.Module) -> nn.Module:
    """``module``, in place, with every ReLU that precedes a max-pooling moved behind it.

    max(relu(x)) = relu(max(x)), and where the largest of a window is not above zero both have gradient zero: the same
    answers and gradients to the last bit, with a ReLU on a quarter of the values.
    """
    for layer in module.modules():
        if type(layer) is nn.Sequential:
            for i in range(len(layer) - 1):
                if _commute(layer[i], layer[i + 1]):
                    layer[i], layer[i + 1] = layer[i + 1], layer[i]
    return module


def _begins_with_group_norm(module: nn.Module) -> bool:
    """Whether inputs meet a GroupNorm before anything that is learned.

    Its backward pass aborts the process in torch 2.13 where channels are last and its input requires no gradient.
    """
    layers = (layer for layer in module.modules() if next(layer.parameters(recurse=False), None) is not None)
    return isinstance(next(layers, None), nn.GroupNorm)


def _commute(first: nn.Module, second: nn.Module) -> bool:
    pools = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)
    if type(first) is not nn.ReLU or type(second) not in pools or second.return_indices:
        return False
    return not (_hooked(first) or _hooked(second))


def draws_nothing(module: nn.Module) -> bool:
    """True if no layer can draw a random number in ``forward``: only layers known not to are trusted."""
    return next(unknown_layers(module), None) is None


def unknown_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Path and layer of those that are not known to draw no random number."""
    return (
        (path, layer)
        for path, layer in module.named_modules()
        if _hooked(layer) or _rewritten(layer) or not _is_known(type(layer))
    )


def _hooked(layer: nn.Module) -> bool:
    """Whether ``forward`` is not all that a call of ``layer`` does."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def _rewritten(layer: nn.Module) -> bool:
    """Whether ``forward`` writes into the weights: an embedding whose vectors have a greatest norm."""
    return getattr(layer, "max_norm", None) is not None


def _is_known(kind: type) -> bool:
    if kind.__module__.startswith("consilium.learn."):
        return True
    excepted = _DETERMINISTIC.get(kind.__module__)
    return excepted is not None and kind.__name__ not in excepted
