"""Weights that were trained elsewhere: safetensors, checked name by name against the architecture."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from consilium.core.errors import Refused
from consilium.core.inputs import random_inputs
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Consortium
from consilium.core.tensor_files import read_tensors
from consilium.learn.architecture import Architecture
from consilium.learn.models.file import File
from consilium.study.spec.spec import TrainedModelSpec
from consilium.study.spec.toml_binding import as_table, entry
from consilium.study.store.error_summary import error_summary

from .probe import built, probed

__all__ = [
    "check_finite",
    "refuse_kind",
    "refuse_otherwise",
    "stored_architecture",
    "stored_network",
    "unwrapped",
]


def stored_network(spec: TrainedModelSpec, data: Consortium) -> Network:
    """The model that the study is of."""
    file = spec.model
    model, classes = stored_architecture(file), data.task.answer_shape(len(data.classes), data.shape)[0]

    def blank(draws: int = 0) -> nn.Module:
        return built(model, data.shape, classes, Stream(draws).child("init"), data.inputs.tokens)

    module, twin = blank(), blank(1)
    tensors = read_tensors(Path(file.path).expanduser(), "model.path")
    _fill(module, tensors, file.path)
    again = lambda: blank().to(spec.device)  # noqa: E731
    network = probed(
        module.to(spec.device), data.shape, len(data.classes),
        task=data.task, trained=False, again=again, tokens=data.inputs.tokens,
    )  # fmt: skip
    _fill(twin, tensors, file.path)
    _refuse_drawn(module, twin.to(spec.device), data)
    return network


def stored_architecture(file: File) -> Architecture:
    """The architecture that the stored weights belong to.

    Raises Refused: the architecture is a file itself.
    """
    table = as_table(file.architecture, "model.architecture")
    architecture = entry(table, "model.architecture", "learn/models")
    if architecture.kind() == "file":
        reason = "a file cannot be the architecture of a file"
        raise Refused(reason, remedy="name the network, such as resnet9", where="model.architecture.kind")
    return architecture


_WRAPPERS = {"module.": "torch.nn.DataParallel", "_orig_mod.": "torch.compile"}
"""What puts its own name before every other: the weights are the same, so the prefix is taken off."""
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_RECORDS = 16
_AS_TRAINED = "give it the knobs that the model was trained with"


def _fill(module: nn.Module, tensors: dict[str, Tensor], path: str) -> None:
    wanted = module.state_dict()
    tensors, wrapper = unwrapped(tensors, wanted.keys())
    missing, extra = wanted.keys() - tensors.keys(), tensors.keys() - wanted.keys()
    if missing or extra:
        odd = f"lacks {min(missing)}" if missing else f"has {min(extra)} too many"
        note = f" (without the prefix {wrapper!r} of {_WRAPPERS[wrapper]})" if wrapper else ""
        reason = f"{path} {odd}{note}: it does not fit the architecture"
        raise Refused(reason, remedy=_AS_TRAINED, where="model.architecture")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            reason = f"{name} has shape {tuple(tensor.shape)}, the architecture {tuple(wanted[name].shape)}"
            raise Refused(reason, remedy=_AS_TRAINED, where="model.architecture")
        refuse_kind(name, tensor, wanted[name].dtype)
        check_finite(name, tensor)
    module.load_state_dict(tensors)
    refuse_otherwise(module.state_dict(), tensors)


def check_finite(name: str, tensor: Tensor, where: str = "model.path") -> None:
    """Refuse NaN and infinity.

    Raises Refused: a number of ``tensor`` is not finite.
    """
    if not bool(torch.isfinite(tensor.float()).all()):
        raise Refused(f"{name} is not finite", remedy="give a model whose training ended well", where=where)


def refuse_kind(name: str, tensor: Tensor, wanted: torch.dtype, where: str = "model.path") -> None:
    """Integers are no weights: their scale is missing; and what the architecture counts in loses nothing.

    Raises Refused: the kind of ``tensor`` cannot stand for ``wanted``.
    """
    if wanted.is_floating_point and tensor.dtype not in _FLOATS:
        raise Refused(
            f"{name} is {_kind(tensor.dtype)}, and the architecture computes in {_kind(wanted)}",
            remedy="give dequantised weights, or use static-int8 in the study",
            where=where,
        )
    if not wanted.is_floating_point and not torch.equal(tensor.to(wanted).to(tensor.dtype), tensor):
        reason = f"{name} ({_kind(tensor.dtype)}) holds numbers that {_kind(wanted)} of the architecture cannot"
        raise Refused(reason, remedy=_AS_TRAINED, where=where)


def _kind(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def refuse_otherwise(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str = "model.path") -> None:
    """Every entry of the file is in the module, or another one was written over it: they share their numbers.

    Raises Refused: an entry of ``tensors`` is not in ``state``.
    """
    for name, tensor in tensors.items():
        target = tensor.to(state[name].dtype)
        if torch.equal(state[name], target):
            continue
        place = state[name].untyped_storage().data_ptr()
        same = [other for other in state if other != name and state[other].untyped_storage().data_ptr() == place]
        gap = float((state[name].double() - target.double()).abs().max())
        raise Refused(
            f"{name} differs by up to {gap:.3g} from {same[0]}, and they are one tensor in the architecture"
            if same
            else f"the architecture changes {name} by up to {gap:.3g} when it is read",
            remedy="give the architecture and the weights of one and the same training",
            where=where,
        )


def _refuse_drawn(module: nn.Module, twin: nn.Module, data: Consortium) -> None:
    """Two builds, from two seeds, with the weights of the file: what they do not share is not in it."""
    x = random_inputs(_RECORDS, data.shape, data.inputs.tokens, Stream(0, ("audit",)).generator())
    device = next((t.device for t in module.state_dict().values()), x.device)
    try:
        with torch.no_grad():
            one, other = (each.eval()(x.to(device, copy=True)) for each in (module, twin))
    except BaseException as error:  # a user's module may raise anything
        reason = f"the model fails on {_RECORDS} random inputs: {error_summary(error)}"
        raise Refused(reason, remedy="let its forward read any batch", where="model.architecture") from error
    gap = float((one - other).abs().max())
    if not gap <= 1e-5 * float(one.abs().max()):
        raise Refused(
            f"two builds of the architecture with these weights answer differently (by up to {gap:.3g}): "
            "it draws parts that the file does not hold",
            remedy="keep them in parameters and buffers (register_buffer), reached through self, and store them",
            where="model.architecture",
        )


def unwrapped(tensors: dict[str, Tensor], wanted: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """``tensors`` without the prefix that all of them have and no name that is wanted has, and that prefix."""
    for prefix in _WRAPPERS:
        if tensors and all(n.startswith(prefix) for n in tensors) and not any(n.startswith(prefix) for n in wanted):
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, prefix
    return tensors, ""
