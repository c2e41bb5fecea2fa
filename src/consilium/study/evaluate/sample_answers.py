"""What a released model answers to four random inputs: kept in its recipe, and asked again when it is loaded.

A user's code may have changed since, or read what no file holds; its weights are then right and its answers are not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from consilium.core.defence import ModelDefence
from consilium.core.errors import Refused
from consilium.core.inputs import random_inputs
from consilium.core.random import Stream

from .release import Answering

__all__ = ["check_sample_answers", "sample_answers"]

_FIELD = "sample_answers"
_INPUTS = 4
_SHARE = 1e-2
"""How far logits may be apart, as a share of their spread: another machine rounds otherwise."""
_ROUNDING = 1e-4


def sample_answers(module: nn.Module, shape: Sequence[int], tokens: int = 0) -> dict[str, list[list[float]]]:
    """What a recipe keeps: logits ``(4, classes)`` before any answer defence; nothing where one is not finite.

    ``tokens``: the size of the vocabulary where inputs are ids.
    """
    logits = _logits(module, shape, tokens)
    return {_FIELD: logits.tolist()} if bool(logits.isfinite().all()) else {}


def check_sample_answers(
    module: nn.Module, shape: Sequence[int], models: Sequence[ModelDefence], recipe: Mapping[str, Any]
) -> None:
    """Compare a model's answers with those in its ``recipe``; an older recipe has none, and nothing is compared.

    Raises Refused: the answers differ by more than rounding and the tolerance of ``models`` allow.
    """
    if _FIELD not in recipe:
        return
    wanted, logits = torch.tensor(recipe[_FIELD]), _logits(module, shape, recipe.get("tokens", 0))
    spread = float((wanted.amax(1) - wanted.amin(1)).median())
    slack = max([_SHARE, *(d.tolerance for d in models)]) * spread + _ROUNDING * float(wanted.abs().max())
    if wanted.shape != logits.shape or not float((logits - wanted).abs().max()) <= slack:
        raise Refused(
            "the model answers otherwise than when it was released, with the same weights",
            remedy="load it with the code and the settings that it was trained with",
            where="model",
        )


def _logits(module: nn.Module, shape: Sequence[int], tokens: int) -> Tensor:
    inner = module.model if isinstance(module, Answering) else module
    x = random_inputs(_INPUTS, shape, tokens, Stream(0, ("sample-answers",)).generator())
    with torch.no_grad():
        logits: Tensor = inner(x)
    return logits.float()
