"""A released model: what model defences make of a trained one, stored, read back, and answering as it will answer.

What is judged is always the model rebuilt from the stored artefact, never the one in memory.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from consilium.core.defence import AnswerDefence, ModelDefence
from consilium.core.errors import Failed, Refused
from consilium.core.files import opened
from consilium.core.network import fill, named_tensors
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.learn.stored import read_tensors, write_tensors

__all__ = ["Answering", "Released", "release", "restore", "seal", "unbroken"]

_LABEL = 1e-6
"""What the answered label's confidence is raised by: it breaks a tie made by rounding and tells no more."""
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
        answered = F.softmax(self.model(x), dim=1)
        top = answered.argmax(1, keepdim=True)
        for defence in self.defences:
            answered = defence.answer(answered)
        # The label is answered beside the confidences: where rounding made a tie, it stays the model's own.
        answered = answered.scatter_add(1, top, torch.full_like(top, _LABEL, dtype=answered.dtype))
        return answered.clamp_min(_FLOOR).log()


def release(
    plain: nn.Module,
    models: Sequence[ModelDefence],
    answers: Sequence[AnswerDefence],
    public: Records,
    path: Path,
    stream: Stream,
) -> Released:
    """Defend ``plain``, store it at ``path`` unless it is there, and hand out what the file holds."""
    module, surrogate = plain, _copy(plain)
    for defence in models[:-1]:
        defended = defence.apply(module, public, stream.child(defence.kind()))
        module, surrogate = defended, defence.surrogate(defended, surrogate)
    fresh = not path.exists()
    if fresh and models:
        module = models[-1].apply(module, public, stream.child(models[-1].kind()))
    if fresh:
        write_tensors(path, models[-1].pack(module) if models else named_tensors(module))
    judged = restore(copy.deepcopy(plain), models, (), read_tensors(path, str(path)), tuple(public.x.shape[1:]))
    if fresh:
        _same(module, judged, public, path)
    surrogate = models[-1].surrogate(judged, surrogate) if models else judged
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
        try:
            fill(module, artefact)
        except Refused as error:
            raise Failed(f"the stored model: {error.reason}", remedy="delete it to store it again") from error
    module = module.eval()
    return Answering(module, answers).eval() if answers else module


def seal(path: Path) -> str:
    """SHA-256 of a stored model: its recipe holds it, so that another file in its place is noticed."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unbroken(path: Path, sealed: str | None) -> None:
    """Fail for a stored model that is not the ``sealed`` one; one never sealed is removed, to be made again."""
    if not path.exists():
        return
    if sealed is None:
        path.unlink()
    elif seal(path) != sealed:
        raise Failed(f"{path} is not the model that was stored", remedy="delete it to store that model again")


def _copy(plain: nn.Module) -> nn.Module | None:
    return copy.deepcopy(plain)


def _same(made: nn.Module, stored: nn.Module, public: Records, path: Path) -> None:
    """The stored artefact must be the defended model: the same logits to the last bit."""
    if not len(public):
        return
    x = public.x[:64]
    with torch.no_grad():
        same = torch.equal(made(x), stored(x))
    if not same:
        raise Failed(f"{path} does not answer as the model made again", remedy="delete it to store that model")
