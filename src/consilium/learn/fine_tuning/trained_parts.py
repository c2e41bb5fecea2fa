"""Which layers of a module a fine-tuning names: the head, normalisation layers, or layers by their names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from consilium.core.catalogue import nearest
from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped

__all__ = ["NORMALISATION", "freeze_all_but", "head_of", "named_parts", "normalisation_parts"]

NORMALISATION = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.GroupNorm, nn.LayerNorm, nn.RMSNorm),
)
"""Layers that normalise; some of them without weights."""


def head_of(module: nn.Module, shape: tuple[int, ...]) -> str:
    """The path of the layer with parameters that is called last for an input of ``shape``.

    Raises Refused: no layer has parameters, or the model itself is the only one.
    """
    paths = {layer: path for path, layer in module.named_modules()}
    called: list[str] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, _: called.append(paths[layer]))
        for layer in paths
        if next(layer.parameters(recurse=False), None) is not None
    ]
    training = module.training
    try:
        with torch.no_grad(), scoped(Stream(0, ("head",))):
            module.eval()(torch.rand(2, *shape).to(next(module.parameters()).device))
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
        called.clear()  # the probe says what is wrong with it
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    if not called or not called[-1]:
        raise Refused(
            "it cannot be found which layer of the model is its head",
            remedy='name it: train = ["LAYER"]',
            where="model.train",
        )
    return called[-1]


def named_parts(module: nn.Module, names: Sequence[str]) -> set[str]:
    """The parameters of the layers, or the parameters, with these ``names``.

    Raises Refused: a name is of no layer and no parameter, or of a layer without parameters.
    """
    parameters = dict(module.named_parameters())
    parts: set[str] = set()
    for name in names:
        below = {p for p in parameters if p == name or p.startswith(f"{name}.")}
        if not below:
            known = [
                path for path, layer in module.named_modules() if path and next(layer.parameters(), None) is not None
            ]
            raise Refused(
                f"the model has no layer {name[:80]!r} with parameters",
                remedy=nearest(name[:80], [*known, *parameters]),
                where="model.train",
            )
        parts |= below
    return parts


def normalisation_parts(module: nn.Module) -> set[str]:
    """The scales and shifts of normalisation layers.

    Raises Refused: there is none.
    """
    layers = [path for path, layer in module.named_modules() if isinstance(layer, NORMALISATION)]
    parts = {name for name, _ in module.named_parameters() if name.rpartition(".")[0] in layers}
    if not parts:
        raise Refused(
            "the model has no normalisation layer with weights",
            remedy='use train = "head", or a model with such layers, such as resnet9',
            where="model.train",
        )
    return parts


def freeze_all_but(module: nn.Module, names: set[str]) -> None:
    """Mark the parameters ``names`` as trained and all others as constants."""
    for name, p in module.named_parameters():
        p.requires_grad_(name in names)
