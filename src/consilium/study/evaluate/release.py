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
from consilium.core.errors import Failed, Refused
from consilium.core.finding import Measure
from consilium.core.network import fill, named_tensors
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.seal import file_digest
from consilium.core.sealed_tensors import read_sealed, write_sealed
from consilium.core.task import Task
from consilium.core.tensor_files import read_tensors, write_tensors
from consilium.learn.alike import departure

__all__ = [
    "Answering",
    "Released",
    "certificates",
    "custom_answers",
    "inspections",
    "release",
    "restore",
    "unbroken",
]

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
        self.asked = self.behind(len(self.defences))

    def behind(self, place: int) -> nn.Module:
        """What the defence at that ``place`` stands around: the model, and the defences named before it."""
        model = self.model
        for defence in self.defences[:place]:
            model = defence.around(model)
        return model

    def forward(self, x: Tensor) -> Tensor:
        """``(n, classes)``."""
        answered = F.softmax(self.asked(x), dim=1)
        top = answered.argmax(1, keepdim=True)
        for defence in self.defences:
            answered = defence.answer(answered)
        # The label is answered beside the confidences: where rounding made a tie, it stays the model's own.
        answered = answered.scatter_add(1, top, torch.full_like(top, _LABEL, dtype=answered.dtype))
        return answered.clamp_min(_FLOOR).log()


def custom_answers(module: nn.Module) -> bool:
    """Whether ``module`` answers through a defence whose code is from elsewhere."""
    defences = module.defences if isinstance(module, Answering) else ()
    return not all(defence.is_builtin() for defence in defences)


def certificates(module: nn.Module, records: Records, task: Task, stream: Stream) -> tuple[Measure, ...]:
    """What the answer defences of ``module`` prove of its answers to ``records``; nothing without any."""
    if not isinstance(module, Answering):
        return ()
    proofs = [
        defence.certificate(module.behind(place), records, task, stream.child(defence.kind()))
        for place, defence in enumerate(module.defences)
    ]
    return tuple(measure for measures in proofs for measure in measures)


def inspections(
    plain: nn.Module,
    models: Sequence[ModelDefence],
    public: Records,
    task: Task,
    stream: Stream,
    labels: Sequence[str],
) -> tuple[Measure, ...]:
    """What the model defences find in the models that they are handed, on the way from ``plain``; mostly nothing.

    ``stream`` is that of :func:`release`.
    """
    measures: tuple[Measure, ...] = ()
    last = max((place for place, defence in enumerate(models) if defence.inspects), default=-1)
    module = plain
    for place, defence in enumerate(models[: last + 1]):
        measures += defence.inspection(module, public, stream.child(defence.kind()), labels)
        module = defence.apply(module, public, stream.child(defence.kind()), task) if place < last else module
    return measures


def release(
    plain: nn.Module,
    models: Sequence[ModelDefence],
    answers: Sequence[AnswerDefence],
    public: Records,
    task: Task,
    path: Path,
    stream: Stream,
    about: Mapping[str, str] | None = None,
    tried: bool = False,
) -> Released:
    """Defend ``plain``, store it at ``path`` unless it is there, and hand out what the file holds.

    With ``about``, what the file belongs to, it is sealed in itself; a cell's own models are sealed in their recipe.
    A defended model is not stored if it answers a public record otherwise in another batch; ``tried`` says that one of
    the same structure was looked at.
    """
    module, surrogate = plain, _copy(plain)
    for defence in models[:-1]:
        defended = defence.apply(module, public, stream.child(defence.kind()), task)
        module, surrogate = defended, defence.surrogate(defended, surrogate)
    fresh = not path.exists()
    if fresh and models:
        module = models[-1].apply(module, public, stream.child(models[-1].kind()), task)
    if fresh and models and not tried:
        _alike(module, models, public)
    if fresh:
        _store(path, models[-1].pack(module) if models else named_tensors(module), about)
    example = public.x.new_zeros(1, *public.x.shape[1:])
    judged = restore(copy.deepcopy(plain), models, (), _stored(path, about), example)
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
    example: Tensor,
) -> nn.Module:
    """The released model from its stored ``artefact`` and an untrained ``module`` for inputs such as ``example``.

    Raises Failed: the tensors of ``artefact`` do not fit ``module``.
    """
    if models:
        shaped = module
        for defence in models:
            shaped = defence.structure(shaped, example)
        module = models[-1].unpack(shaped, artefact)
    else:
        try:
            fill(module, artefact)
        except Refused as error:
            raise Failed(f"the stored model: {error.reason}", remedy="delete it to store it again") from error
    module = module.eval()
    return Answering(module, answers).eval() if answers else module


def unbroken(path: Path, sealed: str | None) -> None:
    """Check that a stored model is the ``sealed`` one; a model that was never sealed is removed, to be made again.

    Raises Failed: the file has another digest.
    """
    if not path.exists():
        return
    if sealed is None:
        path.unlink()
    elif file_digest(path) != sealed:
        raise Failed(f"{path} is not the model that was stored", remedy="delete it to store that model again")


def _store(path: Path, artefact: Mapping[str, Tensor], about: Mapping[str, str] | None) -> None:
    if about is None:
        write_tensors(path, artefact)
    else:
        write_sealed(path, artefact, about)


def _stored(path: Path, about: Mapping[str, str] | None) -> Mapping[str, Tensor]:
    if about is None:
        return read_tensors(path, str(path))
    return read_sealed(path, "shadow", "delete it to store it again", about)[0]


def _copy(plain: nn.Module) -> nn.Module | None:
    return copy.deepcopy(plain)


def _alike(module: nn.Module, models: Sequence[ModelDefence], public: Records) -> None:
    """A record's answer is its own, whatever else is in its batch: else every figure depends on how it was asked."""
    if not len(public):
        return
    kinds = " and ".join(d.kind() for d in models)
    difference = departure(module, public.x, max(d.tolerance for d in models))
    if difference is not None:
        raise Failed(
            f"{kinds}: {difference} (records of the public slice)",
            remedy=f"leave out {models[-1].kind()}, or replace the layer whose kernel depends on the batch",
        )


def _same(module: nn.Module, stored: nn.Module, public: Records, path: Path) -> None:
    """The stored artefact must be the defended model: the same logits to the last bit."""
    if not len(public):
        return
    x = public.x[:64]
    with torch.no_grad():
        same = torch.equal(module(x), stored(x))
    if not same:
        path.unlink()
        raise Failed(
            f"the model read back from {path} does not answer as the one that was stored",
            remedy="keep everything that its answers depend on in parameters and buffers",
        )
