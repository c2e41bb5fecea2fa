"""What planning asks of a study, answered by its kind: one that trains its models, and one of a trained model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass

from consilium.core.errors import Refused
from consilium.core.network import Network
from consilium.core.records import Consortium
from consilium.core.rounding import round_down, round_up
from consilium.federate.round.weights import fewest_sites
from consilium.study.build.engine_choice import check_engine
from consilium.study.build.factory import network, started
from consilium.study.build.pretrained import stored_network
from consilium.study.plan.checks.corruptions import check_infections
from consilium.study.plan.checks.earlier_training import check_weights, unknown_records_note
from consilium.study.plan.checks.observers import check_observers, refuse_observers
from consilium.study.spec.arms import Arm
from consilium.study.spec.federation_table import FederationShape
from consilium.study.spec.fine_tuning import ModelSpec
from consilium.study.spec.spec import CorruptionSpec, Spec, TrainedModelSpec, TrainingSpec

from .case import Case, Refusal, TrainingCase
from .division import check_division, division_note, unknown_model_note
from .nodes import CellNode, TrainedModelCell, TrainingCell, TrainingNode
from .rules import LAWS, MODEL_LAWS, broken_law
from .shadow_pool import check_retraining, refuse_retraining
from .shortfalls import public_shortfalls, training_shortfalls
from .stage_keys import cell_recipe, digest, model_recipe, training_recipe

__all__ = ["Planner", "planner_for"]


class Planner(ABC):
    """Abstract base.  Every check raises Refused, with the place in the study."""

    @abstractmethod
    def network(self, model: ModelSpec, data: Consortium, seed: int) -> Network:
        """The ``model`` of some of its arms before the study does anything to it."""

    @abstractmethod
    def start_notes(self, model: ModelSpec, data: Consortium, seed: int) -> tuple[str, ...]:
        """What every reader must know of the weights that ``model`` starts from."""

    @abstractmethod
    def shortfalls(self, data: Consortium) -> tuple[str, ...]:
        """A note for each number that the study asks for and the data do not have."""

    @abstractmethod
    def notes(self, seed: int) -> tuple[str, ...]:
        """What every reader must know of a seed of the study."""

    @abstractmethod
    def check_study(self, sites: int) -> None:
        """Whether the study is possible among so many ``sites``."""

    @abstractmethod
    def check_data(self, gathered: Callable[[int], Consortium]) -> None:
        """Whether its seeds go with the data that each of them divides."""

    @abstractmethod
    def check_attacks(self, arms: Sequence[Arm], data: Consortium) -> None:
        """Whether its attacks can do what they do."""

    @abstractmethod
    def check_seed(self, data: Consortium, seed: int) -> None:
        """Whether what it does can be done on the data of ``seed``."""

    @abstractmethod
    def broken_law(self, arm: Arm, data: Consortium, net: Network) -> Refusal | None:
        """The first law that ``arm`` breaks on these data; None if it is lawful."""

    @abstractmethod
    def check_lawful(self, lawful: Sequence[Arm], data: Consortium, net: Network) -> None:
        """Whether the ``lawful`` arms can be carried out."""

    @abstractmethod
    def cell(
        self,
        arm: Arm,
        seed: int,
        corruption: CorruptionSpec | None,
        marks: tuple[str, str],
        trainings: MutableMapping[str, TrainingNode],
    ) -> CellNode:
        """The cell of an arm on data and an untrained model with these ``marks``; its training joins ``trainings``."""


def planner_for(spec: Spec) -> Planner:
    """By the kind of the study.  Raises TypeError for one of neither kind."""
    match spec:
        case TrainingSpec():
            return _TrainingPlanner(spec)
        case TrainedModelSpec():
            return _TrainedModelPlanner(spec)
    raise TypeError(f"{type(spec).__name__} is no kind of study")


@dataclass(frozen=True)
class _TrainingPlanner(Planner):
    spec: TrainingSpec

    def network(self, model: ModelSpec, data: Consortium, seed: int) -> Network:
        return network(self.spec.with_model(model), data, seed)

    def start_notes(self, model: ModelSpec, data: Consortium, seed: int) -> tuple[str, ...]:
        if not model.fine_tuning.weights:
            return ()
        notes = started(self.spec.with_model(model), data, seed).notes
        return (*notes, *unknown_records_note(self.spec, model.fine_tuning))

    def shortfalls(self, data: Consortium) -> tuple[str, ...]:
        return training_shortfalls(self.spec, data)

    def notes(self, seed: int) -> tuple[str, ...]:
        return ()

    def check_study(self, sites: int) -> None:
        _check_cohort(self.spec.federation.shape, sites)
        every = self.spec.data.shares.sites
        for i, one in enumerate(self.spec.corruptions):
            if not 0 <= one.count(every) < every:
                raise Refused(
                    f"{one.count(every)} corrupted of {every} sites leave no honest one",
                    remedy="corrupt fewer sites",
                    where=f"corruptions[{i}].{'sites' if one.site_share is None else 'site-share'}",
                )
            if one.site_share is not None and one.count(every) == 0:
                raise Refused(
                    f"a share of {one.site_share:g} of {every} sites is none of them",
                    remedy=f"use at least {round_up(1 / every)}",
                    where=f"corruptions[{i}].site-share",
                )

    def check_data(self, gathered: Callable[[int], Consortium]) -> None:
        """Every seed divides the data anew, and trains on its own division; weights that it starts from may not."""
        check_weights(self.spec, gathered)

    def check_attacks(self, arms: Sequence[Arm], data: Consortium) -> None:
        check_retraining(self.spec, arms, data)
        check_observers(self.spec, data)

    def check_seed(self, data: Consortium, seed: int) -> None:
        check_infections(self.spec, data, seed)

    def broken_law(self, arm: Arm, data: Consortium, net: Network) -> Refusal | None:
        return broken_law(LAWS, TrainingCase(arm.study(self.spec), arm, data, net))

    def check_lawful(self, lawful: Sequence[Arm], data: Consortium, net: Network) -> None:
        check_engine(self.spec, lawful, data, net)

    def cell(
        self,
        arm: Arm,
        seed: int,
        corruption: CorruptionSpec | None,
        marks: tuple[str, str],
        trainings: MutableMapping[str, TrainingNode],
    ) -> TrainingCell:
        spec = arm.study(self.spec)
        recipe = training_recipe(spec, arm, seed, corruption, *marks)
        training = TrainingNode(digest(recipe), recipe, self.spec, arm, seed, corruption)
        training = trainings.setdefault(training.digest, training)
        of_model = model_recipe(spec, arm, seed, training.digest, *marks)
        model = digest(of_model)
        return TrainingCell(digest(cell_recipe(model, seed)), model, of_model, arm, seed, corruption, training)


@dataclass(frozen=True)
class _TrainedModelPlanner(Planner):
    spec: TrainedModelSpec

    def network(self, model: ModelSpec, data: Consortium, seed: int) -> Network:
        return stored_network(self.spec, data)

    def start_notes(self, model: ModelSpec, data: Consortium, seed: int) -> tuple[str, ...]:
        return ()

    def shortfalls(self, data: Consortium) -> tuple[str, ...]:
        return public_shortfalls(self.spec, data)

    def notes(self, seed: int) -> tuple[str, ...]:
        return (*unknown_model_note(self.spec), division_note(seed))

    def check_study(self, sites: int) -> None:
        """Nothing is asked of the sites."""

    def check_data(self, gathered: Callable[[int], Consortium]) -> None:
        check_division(self.spec, gathered)

    def check_attacks(self, arms: Sequence[Arm], data: Consortium) -> None:
        refuse_retraining(self.spec)
        refuse_observers(self.spec)

    def check_seed(self, data: Consortium, seed: int) -> None:
        """Nothing is infected."""

    def broken_law(self, arm: Arm, data: Consortium, net: Network) -> Refusal | None:
        return broken_law(MODEL_LAWS, Case(self.spec, arm, data, net))

    def check_lawful(self, lawful: Sequence[Arm], data: Consortium, net: Network) -> None:
        """No engine carries anything."""

    def cell(
        self,
        arm: Arm,
        seed: int,
        corruption: CorruptionSpec | None,
        marks: tuple[str, str],
        trainings: MutableMapping[str, TrainingNode],
    ) -> TrainedModelCell:
        recipe = model_recipe(self.spec, arm, seed, None, *marks)
        model = digest(recipe)
        return TrainedModelCell(digest(cell_recipe(model, seed)), model, recipe, arm, seed)


def _check_cohort(shape: FederationShape, sites: int) -> None:
    """A minimum that no round can reach aborts them all."""
    most, least = shape.participation.most(sites, shape.fraction), shape.participation.minimum_cohort
    if least > most:
        raise Refused(
            f"a round has at most {most} updates and needs {least}",
            remedy=f"use a minimum-cohort of at most {most}, or a larger fraction",
            where="federation.participation.minimum-cohort",
        )
    if fewest_sites(shape.max_share) > most:
        raise Refused(
            f"among {most} sites one has a share of at least {round_down(1 / most)}, and {shape.max_share:g} is the "
            "most",
            remedy=f"use a max-share of at least {round_up(1 / most)}, or more sites",
            where="federation.max-share",
        )
