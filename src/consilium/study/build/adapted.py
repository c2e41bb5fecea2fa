"""Whether a module with low-rank additions is the module that is released: one with plain weights and the same answers.

A ``forward`` that reads ``self.layer.weight``, or a weight that two layers share, has no place for an addition to one
layer: the trained model would answer otherwise than the released one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from consilium.core.errors import Refused
from consilium.core.frozen import without_adapters
from consilium.core.inputs import random_inputs
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.learn.fine_tuning.low_rank import LowRank
from consilium.study.store.error_summary import error_summary

from .reached import trial_loss

__all__ = ["check_adapted"]

_RECORDS = 4
_NUDGE = 0.5
_REMEDY = 'call the layer itself in forward, give every layer its own weight, or use train = "head"'


def check_adapted(network: Network, shape: Sequence[int]) -> None:
    """Refuse low-rank additions that the model's ``forward`` (of inputs of ``shape``) does not carry.

    Raises Refused: with additions that are not zero the module fails, or answers otherwise than with plain weights.
    """
    module = network.template
    x = random_inputs(_RECORDS, tuple(shape), network.tokens, Stream(0, ("adapted",)).generator())
    x = x.to(network.start()[0].device)
    trouble = _trouble(module, x)
    if trouble:
        raise Refused(
            f"a low-rank addition to {_culprit(module, x)} does not fit the model: {trouble}",
            remedy=_REMEDY,
            where="model.train",
        )
    with scoped(Stream(0, ("adapted", "gradient"))):
        gradient, _ = network.workspace.gradient(*network.start(), lambda predict: trial_loss(predict(x)))
    if not bool(gradient.isfinite().all()):
        reason = "with low-rank additions the model's gradient is NaN or infinite at its first weights"
        raise Refused(reason, remedy="look for sqrt(0) and overflow", where="model.train")


def _trouble(module: nn.Module, x: Tensor) -> str:
    """What is wrong with the additions of ``module``; nothing where they are equal to plain weights."""
    moved = _moved(module)
    try:
        with torch.no_grad(), scoped(Stream(0, ("adapted", "forward"))):
            added, plain = moved(x), without_adapters(copy.deepcopy(moved))(x)
    except Exception as error:  # a user's module may raise anything
        return f"its forward fails ({error_summary(error)})"
    gap, scale = float((added - plain).abs().max()), float(plain.abs().max())
    tolerance = 1e-3 if x.device.type == "cpu" else 1e-2  # convolutions on a GPU round to ten bits
    return "" if gap <= tolerance * scale else f"plain weights would answer otherwise, by up to {gap:.3g}"


def _moved(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose additions are not zero, and small beside the layer's own weight."""
    moved = copy.deepcopy(module).eval()
    draws = Stream(0, ("adapted", "weights")).generator()
    with torch.no_grad():
        for layer in _additions(moved).values():
            up = layer.up.weight
            up.copy_(torch.randn(up.shape, generator=draws).to(up) * _NUDGE * float(layer.layer.weight.std() or 1.0))
    return moved


def _culprit(module: nn.Module, x: Tensor) -> str:
    """The first layer whose addition alone is in trouble."""
    for path in _additions(module):
        alone = copy.deepcopy(module)
        sole = alone.get_submodule(path)
        others = {layer: layer.layer for layer in _additions(alone).values() if layer is not sole}
        for parent in list(alone.modules()):
            for name, child in list(parent._modules.items()):
                if isinstance(child, LowRank) and child in others:
                    setattr(parent, name, others[child])
        if _trouble(alone, x):
            return path
    return next(iter(_additions(module)))


def _additions(module: nn.Module) -> dict[str, LowRank]:
    return {path: layer for path, layer in module.named_modules() if isinstance(layer, LowRank)}
