"""Weights that were trained elsewhere, for an audit: safetensors, checked name by name against the architecture."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Consortium
from consilium.learn.architecture import Architecture
from consilium.learn.models.file import File
from consilium.learn.stored import read_tensors

from .spec import Spec
from .tables import as_table, entry

__all__ = ["stored_architecture", "stored_network"]


def stored_network(spec: Spec, data: Consortium) -> Network:
    """The audited model."""
    file = cast(File, spec.model)
    with scoped(Stream(0).child("init")):
        module = stored_architecture(file).build(data.shape, len(data.classes))
    tensors = read_tensors(Path(file.path).expanduser(), "model.path")
    _fill(module, tensors, file.path)
    return Network(module.to(spec.device))


def stored_architecture(file: File) -> Architecture:
    """The architecture that the stored weights belong to."""
    table = as_table(file.architecture, "model.architecture")
    made = cast(Architecture, entry(table, "model.architecture", "learn/models"))
    if made.kind() == "file":
        reason = "a file cannot be the architecture of a file"
        raise Refused(reason, remedy="name the network, such as resnet9", where="model.architecture.kind")
    return made


_AS_TRAINED = "give it the knobs that the model was trained with"


def _fill(module: nn.Module, tensors: dict[str, Tensor], path: str) -> None:
    wanted = module.state_dict()
    missing, extra = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys()
    if missing or extra:
        odd = f"lacks {min(missing)}" if missing else f"has {min(extra)} too many"
        raise Refused(f"{path} {odd}: it does not fit the architecture", remedy=_AS_TRAINED, where="model.architecture")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            reason = f"{name} has shape {tuple(tensor.shape)}, the architecture {tuple(wanted[name].shape)}"
            raise Refused(reason, remedy=_AS_TRAINED, where="model.architecture")
        if not bool(torch.isfinite(tensor.float()).all()):
            raise Refused(f"{name} is not finite", remedy="audit a model whose training ended well", where="model.path")
    module.load_state_dict(tensors)
