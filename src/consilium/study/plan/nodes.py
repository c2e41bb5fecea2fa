"""The nodes of a plan: trainings, and cells whose model a training of the study makes or that exists already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from consilium.core.plain import Json
from consilium.study.plan.checks.earlier_training import unknown_records_note
from consilium.study.spec.arms import Arm
from consilium.study.spec.federation_table import FederationSpec
from consilium.study.spec.spec import CorruptionSpec, TrainingSpec

from .division import unknown_members_note

__all__ = ["CellNode", "TrainedModelCell", "TrainingCell", "TrainingNode"]


@dataclass(frozen=True, eq=False)
class TrainingNode:
    """One federated training of the study ``spec``."""

    digest: str
    recipe: Mapping[str, Any]
    spec: TrainingSpec
    arm: Arm
    seed: int
    corruption: CorruptionSpec | None

    @property
    def federation(self) -> FederationSpec:
        """How it trains: the study's federation with the algorithm of its arm."""
        return self.arm.federation(self.spec)

    @property
    def rounds(self) -> int:
        """How many rounds are planned."""
        return self.spec.federation.shape.rounds


@dataclass(frozen=True, eq=False)
class CellNode(ABC):
    """Abstract base: one model with one seed; ``corruption`` is None for a clean one."""

    digest: str
    model: str
    model_recipe: Mapping[str, Any]
    arm: Arm
    seed: int
    corruption: CorruptionSpec | None

    @property
    @abstractmethod
    def after(self) -> tuple[TrainingNode, ...]:
        """The trainings that must have ended before it."""

    @property
    @abstractmethod
    def training(self) -> str | None:
        """The digest of its training as evidence names it: null for a model that exists already."""

    @property
    @abstractmethod
    def engine(self) -> str | None:
        """The engine that the study asks for, likewise."""

    @property
    @abstractmethod
    def training_recipe(self) -> dict[str, Json] | None:
        """What its training depends on, likewise."""

    @property
    @abstractmethod
    def member_notes(self) -> tuple[str, ...]:
        """What a reader of membership figures must know of whom they call members."""

    @property
    def infected_by(self) -> str:
        """The corruption's name, or ``none``."""
        return "none" if self.corruption is None else self.corruption.name

    @property
    def label(self) -> str:
        """For people: arm, seed, infection."""
        infected = "" if self.corruption is None else f", infected by {self.corruption.name}"
        return f"{self.arm.name} (seed {self.seed}{infected})"


@dataclass(frozen=True, eq=False)
class TrainingCell(CellNode):
    """A cell whose model the study trains; arms that differ only after training share the training ``node``."""

    node: TrainingNode

    @property
    def after(self) -> tuple[TrainingNode, ...]:
        """Its training."""
        return (self.node,)

    @property
    def training(self) -> str:
        """The digest of its training."""
        return self.node.digest

    @property
    def engine(self) -> str:
        """That of the federation."""
        return self.node.spec.federation.shape.engine

    @property
    def training_recipe(self) -> dict[str, Json]:
        """That of its training."""
        return dict(self.node.recipe)

    @property
    def member_notes(self) -> tuple[str, ...]:
        """Nothing where who was trained on is known: a model may start from weights of other records."""
        spec = self.arm.study(self.node.spec)
        return unknown_records_note(spec, spec.start.fine_tuning)


@dataclass(frozen=True, eq=False)
class TrainedModelCell(CellNode):
    """A cell of a model that exists already: nobody can be malicious where nothing is trained."""

    corruption: None = field(default=None, init=False)

    @property
    def after(self) -> tuple[TrainingNode, ...]:
        """Nothing is trained."""
        return ()

    @property
    def training(self) -> None:
        """Nothing is trained."""

    @property
    def engine(self) -> None:
        """Nothing is trained."""

    @property
    def training_recipe(self) -> None:
        """Nothing is trained."""

    @property
    def member_notes(self) -> tuple[str, ...]:
        """That members are those of the seed's division, whatever the model was trained on."""
        return (unknown_members_note(self.seed),)
