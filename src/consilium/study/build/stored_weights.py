"""Weights that a model starts from: a safetensors file, the released model of another study, or a user's function.

A file is checked name by name.  The head may be another: where it is missing in the weights, or has another shape, it
keeps what the seed drew.  Everything else must be there, and nothing may be there that the model has not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from consilium.core.errors import ConsiliumError, Refused
from consilium.core.network import named_tensors
from consilium.core.seal import file_digest, is_altered
from consilium.core.tensor_files import read_tensors
from consilium.learn.user_code.user_object import first_line, user_object
from consilium.study.spec.fine_tuning import FineTuning, is_function
from consilium.study.store.store import read_stored

from .pretrained import check_finite, refuse_kind, refuse_otherwise, unwrapped

__all__ = ["StoredWeights", "fill_from", "other_classes", "stored_weights", "weights_recipe"]

_WHERE = "model.weights"
_MODEL = "model.safetensors"
_MOST_CLASSES = 10
_RUN = "run that study first (consilium run STUDY.toml), or give a safetensors file"


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """Tensors by name, and where they are from, for people."""

    tensors: Mapping[str, Tensor]
    origin: str


def stored_weights(tuning: FineTuning) -> StoredWeights:
    """What ``weights`` names.

    Raises Refused: it names nothing that can be read, or code that may not be run.
    """
    if is_function(tuning.weights):
        return StoredWeights(_returned(tuning), f"the function {tuning.weights}")
    path = Path(tuning.weights).expanduser()
    if path.is_dir():
        path = _released(path)
    tensors = read_tensors(path, _WHERE)
    return StoredWeights(tensors, f"{path} (sha256 {file_digest(path)[:16]})")


def weights_recipe(tuning: FineTuning) -> Mapping[str, Any]:
    """The recipe beside what ``weights`` names; empty where there is none of this very file.

    Raises Refused: a folder that it names holds no released model, or several.
    """
    if is_function(tuning.weights):
        return {}
    path = Path(tuning.weights).expanduser()
    path = _released(path) if path.is_dir() else path
    try:
        recipe = read_stored(path.with_name("recipe.json")) or {}
        return recipe if not is_altered(recipe) and recipe.get("sha256") == file_digest(path) else {}
    except (ConsiliumError, OSError):
        return {}


def other_classes(recipe: Mapping[str, Any], classes: Sequence[str]) -> str:
    """The classes of the ``recipe``, for people, where their set is not that of ``classes``; else empty.

    The same classes in another order are no other classes: they are refused where the recipe is compared.
    """
    theirs = recipe.get("classes")
    if not isinstance(theirs, list) or not classes or set(theirs) == set(classes):
        return ""
    return ", ".join(map(str, theirs[:_MOST_CLASSES])) + (", ..." if len(theirs) > _MOST_CLASSES else "")


def fill_from(module: nn.Module, stored: StoredWeights, head: frozenset[str], others: str = "") -> tuple[str, ...]:
    """Write the tensors into ``module``; returns a line for each parameter of the ``head`` that keeps its own.

    With ``others``, the classes that the weights were trained for, the whole head keeps its own.

    Raises Refused: a tensor is missing, has another shape or kind, is not finite, or is one too many.
    """
    targets = {**module.state_dict(keep_vars=True), **named_tensors(module)}
    tensors, _ = unwrapped(dict(stored.tensors), targets)
    reasons = {name: _why_kept(tensors.get(name), targets[name], others) for name in head}
    tensors = {name: tensor for name, tensor in tensors.items() if not reasons.get(name)}
    _check_names(stored.origin, tensors, targets, {name for name, why in reasons.items() if why})
    for name, tensor in tensors.items():
        _check(name, tensor, targets[name])
    with torch.no_grad():
        for name, tensor in tensors.items():
            targets[name].copy_(tensor)
    refuse_otherwise({name: t.detach() for name, t in targets.items()}, tensors, _WHERE)
    return tuple(f"{name} {why}" for name, why in sorted(reasons.items()) if why)


def _why_kept(tensor: Tensor | None, target: Tensor, others: str) -> str:
    if tensor is None:
        return "is not among the weights"
    if tensor.shape != target.shape:
        return f"has shape {tuple(tensor.shape)} there and {tuple(target.shape)} here"
    return f"was trained for other classes ({others})" if others else ""


def _check_names(origin: str, tensors: Mapping[str, Tensor], targets: Mapping[str, Tensor], excepted: set[str]) -> None:
    """Every tensor has a value, under one of its names where several share it, and every value a tensor."""
    filled = {targets[name].data_ptr() for name in tensors if name in targets}
    missing = [name for name, t in targets.items() if t.numel() and name not in excepted and t.data_ptr() not in filled]
    extra = [name for name in tensors if name not in targets]
    if missing or extra:
        odd = f"lacks {missing[0]}" if missing else f"has {extra[0]} too many"
        reason = f"{origin} {odd}: it does not fit the model"
        raise Refused(reason, remedy="give weights of this architecture, with the knobs it has here", where=_WHERE)


def _check(name: str, tensor: Tensor, target: Tensor) -> None:
    if tensor.shape != target.shape:
        raise Refused(
            f"{name} has shape {tuple(tensor.shape)} in the weights and {tuple(target.shape)} in the model",
            remedy="give weights of this architecture, with the knobs it has here; only a head may differ",
            where=_WHERE,
        )
    refuse_kind(name, tensor, target.dtype, _WHERE)
    check_finite(name, tensor, _WHERE)


def _returned(tuning: FineTuning) -> Mapping[str, Tensor]:
    """What the user's function returns."""
    if not tuning.allow_code:
        raise Refused(
            f"weights {tuning.weights!r} would run code that is not Consilium's",
            remedy="set model.allow-code = true if you trust it",
            where=f"{_WHERE}",
        )
    function = user_object(tuning.weights, _WHERE)
    try:
        tensors = function()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # anyone's code
        reason = f"{tuning.weights} fails: {first_line(error)}"
        raise Refused(
            reason, remedy="let it return a state dict when called without arguments", where=_WHERE
        ) from error
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        reason = f"{tuning.weights} returned a {type(tensors).__name__}, not a mapping from names to tensors"
        raise Refused(reason, remedy="return module.state_dict()", where=_WHERE)
    return {str(name): tensor.detach().cpu() for name, tensor in tensors.items()}


def _released(folder: Path) -> Path:
    """The model in the folder of a model, of a cell, or of a study that has one model.

    Raises Refused: there is none, there are several, or it is not the one that was stored.
    """
    if (folder / _MODEL).is_file():
        return _unaltered(folder)
    try:
        evidence = read_stored(folder / "evidence.json")
    except ConsiliumError as error:
        raise error.at(_WHERE) from None
    if evidence is not None and isinstance(evidence.get("model"), str):
        return _unaltered(folder.parent.parent / "models" / str(evidence["model"]))
    models = sorted(path.parent for path in folder.glob(f"models/*/{_MODEL}"))
    if len(models) == 1:
        return _unaltered(models[0])
    reason = f"{folder} holds no released model" if not models else f"{folder} holds {len(models)} released models"
    raise Refused(reason, remedy=f"name one of {folder}/cells" if models else _RUN, where=_WHERE)


def _unaltered(folder: Path) -> Path:
    """The model file of ``folder``, if its recipe's seal and digest hold (LAWS 25)."""
    path, recipe = folder / _MODEL, read_stored(folder / "recipe.json")
    if not path.is_file():
        raise Refused(f"{path} is not there", remedy=_RUN, where=_WHERE)
    if recipe is not None and (is_altered(recipe) or recipe.get("sha256") != file_digest(path)):
        reason = f"{path} is not the model that was stored there"
        raise Refused(reason, remedy="run that study again: it stores the model again", where=_WHERE)
    return path
