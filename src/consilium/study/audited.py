"""Weights that were trained elsewhere, for an audit: safetensors, checked name by name against the architecture."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Consortium
from consilium.learn.architecture import Architecture
from consilium.learn.models.file import File
from consilium.learn.stored import read_tensors

from .probe import built, probed
from .spec import Spec
from .tables import as_table, entry

__all__ = ["stored_architecture", "stored_network"]


def stored_network(spec: Spec, data: Consortium) -> Network:
    """The audited model."""
    file = cast(File, spec.model)
    model, classes = stored_architecture(file), len(data.classes)

    def blank() -> nn.Module:
        return built(model, data.shape, classes, Stream(0).child("init"))

    module = blank()
    _fill(module, read_tensors(Path(file.path).expanduser(), "model.path"), file.path)
    return probed(module.to(spec.device), data.shape, classes, trained=False, again=lambda: blank().to(spec.device))


def stored_architecture(file: File) -> Architecture:
    """The architecture that the stored weights belong to."""
    table = as_table(file.architecture, "model.architecture")
    made = cast(Architecture, entry(table, "model.architecture", "learn/models"))
    if made.kind() == "file":
        reason = "a file cannot be the architecture of a file"
        raise Refused(reason, remedy="name the network, such as resnet9", where="model.architecture.kind")
    return made


_WRAPPERS = {"module.": "torch.nn.DataParallel", "_orig_mod.": "torch.compile"}
"""What puts its own name before every other: the weights are the same, so the prefix is taken off."""
_AS_TRAINED = "give it the knobs that the model was trained with"


def _fill(module: nn.Module, tensors: dict[str, Tensor], path: str) -> None:
    wanted = module.state_dict()
    tensors, wrapper = _unwrapped(tensors, wanted.keys())
    missing, extra = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys()
    if missing or extra:
        odd = f"lacks {min(missing)}" if missing else f"has {min(extra)} too many"
        said = f" (without the prefix {wrapper!r} of {_WRAPPERS[wrapper]})" if wrapper else ""
        reason = f"{path} {odd}{said}: it does not fit the architecture"
        raise Refused(reason, remedy=_AS_TRAINED, where="model.architecture")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            reason = f"{name} has shape {tuple(tensor.shape)}, the architecture {tuple(wanted[name].shape)}"
            raise Refused(reason, remedy=_AS_TRAINED, where="model.architecture")
        if not bool(torch.isfinite(tensor.float()).all()):
            raise Refused(f"{name} is not finite", remedy="audit a model whose training ended well", where="model.path")
    module.load_state_dict(tensors)


def _unwrapped(tensors: dict[str, Tensor], wanted: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """``tensors`` without the prefix that all of them have and no name that is wanted has, and that prefix."""
    for prefix in _WRAPPERS:
        if tensors and all(n.startswith(prefix) for n in tensors) and not any(n.startswith(prefix) for n in wanted):
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, prefix
    return tensors, ""
