"""A released model: what model defences make of a trained one, stored, read back, and answering as it will answer.

What is judged is always the model rebuilt from the stored artefact, never the one in memory.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consilium.core.defence import AnswerDefence, ModelDefence
from consilium.core.errors import Failed
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.learn.stored import read_tensors, write_tensors

__all__ = ["Answering", "Released", "release", "restore"]

_FLOOR = 1e-12
"""Answered probabilities below this read as this: a rounded 0 has no logarithm."""


@dataclass(frozen=True, eq=False)
class Released:
    """``module`` answers; ``surrogate`` is its differentiable stand-in, if there is one; ``plain`` the same in fp32."""

    module: nn.Module
    surrogate: nn.Module | None
    plain: nn.Module
    size: int


class Answering(nn.Module):
    """x -> logarithms of the probabilities that the answer defences let out."""

    def __init__(self, model: nn.Module, defences: Sequence[AnswerDefence]) -> None:
        super().__init__()
        self.model, self.defences = model, tuple(defences)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, classes)``."""
        probabilities = F.softmax(self.model(x), dim=1)
        for defence in self.defences:
            probabilities = defence.answer(probabilities)
        return probabilities.clamp_min(_FLOOR).log()


def release(
    plain: nn.Module,
    models: Sequence[ModelDefence],
    answers: Sequence[AnswerDefence],
    public: Records,
    path: Path,
    stream: Stream,
) -> Released:
    """Defend ``plain``, store it at ``path`` unless it is there, and hand out what the file holds."""
    module: nn.Module = plain
    surrogate: nn.Module | None = copy.deepcopy(plain)
    for defence in models:
        defended = defence.apply(module, public, stream.child(defence.kind()))
        surrogate = defence.surrogate(defended, surrogate)
        module = defended
    if not path.exists():
        write_tensors(path, models[-1].pack(module) if models else dict(module.state_dict()))
    judged = restore(copy.deepcopy(plain), models, (), read_tensors(path, str(path)), tuple(public.x.shape[1:]))
    _same(module, judged, public, path)
    if not models:
        surrogate = judged
    for answer in answers:
        surrogate = answer.surrogate(surrogate)
    return Released(Answering(judged, answers) if answers else judged, surrogate, plain, path.stat().st_size)


def restore(
    module: nn.Module,
    models: Sequence[ModelDefence],
    answers: Sequence[AnswerDefence],
    artefact: Mapping[str, Tensor],
    shape: tuple[int, ...],
) -> nn.Module:
    """The released model from its stored ``artefact`` and an untrained ``module`` for inputs of ``shape``."""
    if models:
        shaped = module
        for defence in models:
            shaped = defence.structure(shaped, torch.zeros(1, *shape))
        module = models[-1].unpack(shaped, artefact)
    else:
        module.load_state_dict(dict(artefact))
    module = module.eval()
    return Answering(module, answers).eval() if answers else module


def _same(made: nn.Module, stored: nn.Module, public: Records, path: Path) -> None:
    """The stored artefact must be the defended model: the same logits to the last bit."""
    if not len(public):
        return
    x = public.x[:64]
    with torch.no_grad():
        same = torch.equal(made(x), stored(x))
    if not same:
        raise Failed(f"{path} does not answer as the model made again", remedy="delete it to store that model")
