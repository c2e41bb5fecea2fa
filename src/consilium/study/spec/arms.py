"""Arms: every combination of the choices on a study's axes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from consilium.core.algorithm import Algorithm
from consilium.core.defence import (
    AnswerDefence,
    DataDefence,
    Defence,
    MergeDefence,
    ModelDefence,
    TrainingDefence,
    UpdateDefence,
)

from .federation_table import FederationSpec
from .fine_tuning import ModelSpec
from .spec import Choice, Spec, TrainingSpec

__all__ = ["Arm", "arm_name", "arms", "by_model", "model_key", "models", "same_choices"]

AnyStudy = TypeVar("AnyStudy", bound=Spec)


@dataclass(frozen=True)
class Arm:
    """One combination: its name, the label chosen on each axis, and the defences in the order of the study.

    ``algorithm`` and ``network`` are None where the arm keeps the study's own.
    """

    name: str
    choices: Mapping[str, str]
    defences: tuple[Defence, ...]
    algorithm: Algorithm | None = None
    network: ModelSpec | None = None

    def study(self, spec: AnyStudy) -> AnyStudy:
        """``spec`` with this arm's algorithm and model in the place of the study's own."""
        return spec.with_algorithm(self.algorithm).with_model(self.network)

    def federation(self, spec: TrainingSpec) -> FederationSpec:
        """How this arm of ``spec`` trains."""
        return self.study(spec).federation

    @property
    def data(self) -> tuple[DataDefence, ...]:
        """The data defences, in order."""
        return tuple(d for d in self.defences if isinstance(d, DataDefence))

    @property
    def training(self) -> tuple[TrainingDefence, ...]:
        """The training defences, in order."""
        return tuple(d for d in self.defences if isinstance(d, TrainingDefence))

    @property
    def update(self) -> tuple[UpdateDefence, ...]:
        """The update defences, in order."""
        return tuple(d for d in self.defences if isinstance(d, UpdateDefence))

    @property
    def merge(self) -> tuple[MergeDefence, ...]:
        """The merge defences, in order."""
        return tuple(d for d in self.defences if isinstance(d, MergeDefence))

    @property
    def model(self) -> tuple[ModelDefence, ...]:
        """The model defences, in order."""
        return tuple(d for d in self.defences if isinstance(d, ModelDefence))

    @property
    def answer(self) -> tuple[AnswerDefence, ...]:
        """The answer defences, in order."""
        return tuple(d for d in self.defences if isinstance(d, AnswerDefence))


def arms(spec: Spec) -> tuple[Arm, ...]:
    """The arms in the order of the axes, the undefended one first."""
    return tuple(_arm(tuple(spec.vary), choices) for choices in itertools.product(*spec.vary.values()))


def model_key(model: ModelSpec) -> str:
    """What tells ``model`` from others in one study."""
    return json.dumps(model.configuration(), sort_keys=True)


def models(spec: Spec) -> dict[str, ModelSpec]:
    """The models of the study's arms, each by its key, its own first."""
    varied = [choice.model for choices in spec.vary.values() for choice in choices if choice.model is not None]
    return {model_key(model): model for model in (spec.start, *varied)}


def by_model(spec: Spec, some: Sequence[Arm]) -> list[list[Arm]]:
    """The arms ``some`` in groups of one and the same model."""
    groups: dict[str, list[Arm]] = {}
    for arm in some:
        groups.setdefault(model_key(arm.study(spec).start), []).append(arm)
    return list(groups.values())


def arm_name(labels: Sequence[str]) -> str:
    """The name of the arm with these ``labels``, one an axis."""
    return " + ".join(label for label in labels if label != "none") or "none"


def same_choices(arm: Arm, choices: Mapping[str, str]) -> bool:
    """True if ``arm`` is the one that ``choices`` name."""
    return dict(arm.choices) == dict(choices)


def _arm(axes: tuple[str, ...], choices: tuple[Choice, ...]) -> Arm:
    return Arm(
        arm_name([c.label for c in choices]),
        {axis: choice.label for axis, choice in zip(axes, choices, strict=True)},
        tuple(d for choice in choices for d in choice.defences),
        next((c.algorithm for c in choices if c.algorithm is not None), None),
        next((c.model for c in choices if c.model is not None), None),
    )
