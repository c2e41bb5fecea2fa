"""A module's structure as plain JSON, so that it can be built again without its constructor, and without pickle.

Of each layer: its class by import path, its attributes as far as they are plain values, torch's dtypes, or functions
that can be imported, and which tensors are its parameters and buffers.  Whatever else a layer holds is refused by name:
it would be missing in the copy.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from consilium.core.errors import Refused

__all__ = ["SKELETON", "TORCH", "Structure", "classes_of", "from_skeleton", "skeleton", "tensors_of"]

SKELETON = "skeleton"
"""The name of the structure in a file's header."""
TORCH = "torch.nn."
"""Classes below it are torch's own layers; others are a user's code."""
Structure: TypeAlias = Mapping[str, Any]
"""JSON of a layer: its class, attributes, tensors by name, and layers."""
_INSIDE = frozenset(vars(nn.Module()))
_STATE = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training"}
_OF_RNN = {"_flat_weights", "_flat_weight_refs"}
"""Lists of an RNN's own parameters, which it makes again."""
_REMEDY = 'put the class into a file and name it: model = {"kind": "module", "path": "nets:Net", "allow-code": True}'


def skeleton(module: nn.Module) -> Structure:
    """The structure of ``module``, to which :func:`tensors_of` has the numbers.

    Raises Refused: a layer holds what cannot be written down, or its class cannot be imported.
    """
    return _Writer().layer(module, "")


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name, one that several layers share once; those that are not saved too."""
    tensors: dict[str, Tensor] = {}
    known: set[int] = set()
    for path, layer in module.named_modules():
        for name, tensor in (*layer._parameters.items(), *layer._buffers.items()):
            if tensor is not None and id(tensor) not in known:
                known.add(id(tensor))
                tensors[f"{path}.{name}" if path else name] = tensor.detach()
    return tensors


def classes_of(structure: Structure) -> Iterator[str]:
    """The import path of each class and function in it."""
    if "class" in structure:
        yield str(structure["class"])
        yield from _functions(structure["attributes"])
        for inner in structure["modules"].values():
            yield from classes_of(inner or {})


def from_skeleton(structure: Structure, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The module with these tensors, as it was.

    Raises Refused: a class cannot be imported, or the file is not one that was written here.
    """
    try:
        return _Reader(tensors).layer(structure, "")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"the stored module cannot be built again: {type(error).__name__}: {error}"
        raise Refused(reason, remedy="store it again with this version, and with the code that it had") from error


class _Writer:
    """Writes layers and remembers which it has written: what two names share is written once."""

    def __init__(self) -> None:
        self._layers: dict[int, str] = {}
        self._tensors: dict[int, str] = {}

    def layer(self, layer: nn.Module, path: str) -> Structure:
        if id(layer) in self._layers:
            return {"same-as": self._layers[id(layer)]}
        self._layers[id(layer)] = path
        place = path or "the model"
        kind = _importable(type(layer), place)
        _refuse_unshaped(layer, place)
        _refuse_hooks(layer, place)
        left_out = _INSIDE | (_OF_RNN if isinstance(layer, nn.RNNBase) else frozenset())
        attributes = {k: _plain(v, f"{place}.{k}") for k, v in vars(layer).items() if k not in left_out}
        parameters = {name: self._tensor(t, path, name) for name, t in layer._parameters.items()}
        frozen = [name for name, p in layer._parameters.items() if p is not None and not p.requires_grad]
        return {
            "class": kind,
            "attributes": attributes,
            "parameters": parameters,
            "frozen": frozen,
            "buffers": {name: self._tensor(t, path, name) for name, t in layer._buffers.items()},
            "unsaved": sorted(layer._non_persistent_buffers_set),
            "training": layer.training,
            "modules": {
                name: None if inner is None else self.layer(inner, f"{path}.{name}" if path else name)
                for name, inner in layer._modules.items()
            },
        }

    def _tensor(self, tensor: Tensor | None, path: str, name: str) -> str | None:
        if tensor is None:
            return None
        place = f"{path}.{name}" if path else name
        return self._tensors.setdefault(id(tensor), place)


def _refuse_unshaped(layer: nn.Module, place: str) -> None:
    if any(is_lazy(tensor) for tensor in (*layer._parameters.values(), *layer._buffers.values()) if tensor is not None):
        raise Refused(f"{place} has no shape yet: it is lazy", remedy="call the model once, or give its sizes")


def _refuse_hooks(layer: nn.Module, place: str) -> None:
    odd = [name for name in _INSIDE - _STATE if vars(layer).get(name) and "hook" in name]
    if odd:
        raise Refused(f"{place} has hooks, which are not stored", remedy="remove them, or do it in forward")


def _importable(thing: Any, place: str) -> str:
    """``MODULE:NAME`` of a class or function."""
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
    for home, word in ((module, name), ("torch", name.rpartition(".")[2])):  # torch.relu says it is of another class
        if home and word and _found(home, word) is thing:
            return f"{home}:{word}"
    reason = f"{place} is {name or type(thing).__name__} of {module}, which cannot be imported"
    raise Refused(reason, remedy="define it at the top of a file or of a notebook cell, not inside a function")


def _found(module: str, name: str) -> Any:
    try:
        return functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return None


def _plain(value: Any, place: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, tuple | list):
        parts = [_plain(one, f"{place}[{i}]") for i, one in enumerate(value)]
        return parts if type(value) is list else {"tuple": parts}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {key: _plain(one, f"{place}[{key!r}]") for key, one in value.items()}}
    if callable(value) and not isinstance(value, nn.Module) and hasattr(value, "__name__"):
        return {"function": _importable(value, place)}
    if isinstance(value, Tensor | nn.Module):
        reason = f"{place} is a {type(value).__name__} that is no registered part of the model"
        raise Refused(reason, remedy="register it: register_buffer, nn.Parameter, nn.ModuleList")
    raise Refused(f"{place} is a {type(value).__name__}, and only plain values can be stored", remedy=_REMEDY)


def _functions(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("function"), str):
            yield value["function"]
        for one in value.values():
            yield from _functions(one)
    elif isinstance(value, list):
        for one in value:
            yield from _functions(one)


class _Reader:
    """Builds layers, those that are shared once."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        self._parameters: dict[str, nn.Parameter] = {}
        self._layers: dict[str, nn.Module] = {}

    def layer(self, structure: Structure, path: str) -> nn.Module:
        if "same-as" in structure:
            return self._layers[structure["same-as"]]
        kind = _resolved(structure["class"])
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise TypeError(f"{structure['class']} is no module")
        layer: nn.Module = kind.__new__(kind)
        nn.Module.__init__(layer)
        self._layers[path] = layer
        for name, value in structure["attributes"].items():
            if name in _INSIDE:  # hooks would be called
                raise ValueError(f"{name} is no attribute of a layer's own")
            object.__setattr__(layer, name, _value(value))
        for name, key in structure["parameters"].items():
            layer.register_parameter(name, None if key is None else self._parameter(key, name in structure["frozen"]))
        for name, key in structure["buffers"].items():
            buffer = None if key is None else self._tensors[key]
            layer.register_buffer(name, buffer, persistent=name not in structure["unsaved"])
        for name, inner in structure["modules"].items():
            below = f"{path}.{name}" if path else name
            layer.register_module(name, None if inner is None else self.layer(inner, below))
        layer.training = structure["training"]
        if isinstance(layer, nn.RNNBase):
            layer._init_flat_weights()
        return layer

    def _parameter(self, key: str, frozen: bool) -> nn.Parameter:
        if key not in self._parameters:
            self._parameters[key] = nn.Parameter(self._tensors[key], requires_grad=not frozen)
        return self._parameters[key]


def _resolved(path: str) -> Any:
    module, _, name = path.partition(":")
    thing = _found(module, name)
    if thing is None:
        raise Refused(f"{path} cannot be imported", remedy="run where its file is, or set PYTHONPATH", where="model")
    if _importable(thing, path) != path:  # torch.nn.init:torch.os.system is no function of torch.nn
        raise Refused(f"{path} is not the place of what it names", remedy="store the module again", where="model")
    return thing


def _value(stored: Any) -> Any:
    if isinstance(stored, list):
        return [_value(one) for one in stored]
    if not isinstance(stored, dict):
        return stored
    ((how, inner),) = stored.items()
    if how == "dtype":
        return getattr(torch, inner)
    if how == "function":
        return _resolved(inner)
    return tuple(map(_value, inner)) if how == "tuple" else {key: _value(one) for key, one in inner.items()}
