"""Layers whose code is neither torch's nor this package's: what they do can be tested, and not be known.

torch's own layers do the same for a batch of any size and whatever is in it.  A user's ``forward``, a hook, and a
``forward`` that replaces a layer's own may depend on the size of the batch, or on a rare value in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

__all__ = ["custom_layers", "group_norm", "has_custom_code"]

_KNOWN = frozenset({"torch", "consilium"})
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_custom_code(module: nn.Module) -> bool:
    """Whether any of its layers runs code from elsewhere."""
    return next(custom_layers(module), None) is not None


def group_norm(module: nn.Module) -> str:
    """The remedy for a model that mixes the records of a batch: a parameter of the catalogue's model, another layer in
    a user's own with BatchNorm, and where no layer normalises, another forward.
    """
    if not any(isinstance(layer, _NormBase) for layer in module.modules()):
        return "let forward take means, sums and branches of one record alone: x.mean(1), not x.mean() or x.mean(0)"
    of_catalogue = any(type(layer).__module__.startswith("consilium.learn.models.") for layer in module.modules())
    return 'use GroupNorm (model.norm = "group")' if of_catalogue else "use torch.nn.GroupNorm in its place"


def custom_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Path and layer of each that runs code from elsewhere."""
    return ((path, layer) for path, layer in module.named_modules() if _is_custom(layer))


def _is_custom(layer: nn.Module) -> bool:
    elsewhere = any(
        kind.__module__.partition(".")[0] not in _KNOWN for kind in type(layer).__mro__ if kind is not object
    )
    replaced = "forward" in vars(layer) or isinstance(layer, torch.fx.GraphModule)
    return elsewhere or replaced or any(getattr(layer, hooks, None) for hooks in _HOOKS)
