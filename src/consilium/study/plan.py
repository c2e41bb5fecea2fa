"""The plan: trainings, models and cells as a graph, each named by the digest of what it depends on.

Arms that differ only after training share their training; what is finished is not in the way: `run` skips it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from consilium.core.errors import Refused, Unlawful
from consilium.core.network import Network
from consilium.core.records import Consortium
from consilium.measure.privacy import Claim

from .arms import Arm, arms, same_choices
from .audited import stored_network
from .build import colluders, consortium, network
from .claims import planned_claims
from .laws import Refusal, broken_law
from .recipe import cell_recipe, digest, fingerprint, model_recipe, training_recipe
from .spec import AttackSpec, CorruptionSpec, Spec

__all__ = ["CellNode", "Materials", "Plan", "TrainingNode", "make_plan"]


@dataclass(frozen=True, eq=False)
class TrainingNode:
    """One federated training."""

    digest: str
    recipe: Mapping[str, Any]
    arm: Arm
    seed: int
    corruption: CorruptionSpec | None


@dataclass(frozen=True, eq=False)
class CellNode:
    """One model with one seed; ``training`` is None in an audit."""

    digest: str
    model: str
    model_recipe: Mapping[str, Any]
    training: str | None
    arm: Arm
    seed: int
    corruption: CorruptionSpec | None

    @property
    def infected_by(self) -> str:
        """The corruption's name, or ``none``."""
        return "none" if self.corruption is None else self.corruption.name

    @property
    def label(self) -> str:
        """For people: arm, seed, infection."""
        infected = "" if self.corruption is None else f", infected by {self.corruption.name}"
        return f"{self.arm.name} (seed {self.seed}{infected})"


class Materials:
    """Data and untrained networks by seed; a few seeds are kept, the rest are made again when they are asked for."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.consortium = lru_cache(maxsize=3)(self._consortium)
        self.network = lru_cache(maxsize=3)(self._network)

    def _consortium(self, seed: int) -> Consortium:
        return consortium(self.spec, seed)

    def _network(self, seed: int) -> Network:
        data = self.consortium(seed)
        return stored_network(self.spec, data) if self.spec.audit else network(self.spec, data, seed)


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything a study will do, before it does anything."""

    spec: Spec
    materials: Materials
    arms: tuple[Arm, ...]
    refused: Mapping[str, Refusal]
    trainings: Mapping[str, TrainingNode]
    cells: tuple[CellNode, ...]
    claims: Mapping[str, tuple[Claim, ...]] = field(default_factory=dict)

    def source(self, attack: AttackSpec, cell: CellNode) -> CellNode | None:
        """The cell that a transfer attack crafts on: the clean one of the same seed and the named arm."""
        if attack.source is None:
            return None
        for other in self.cells:
            if other.seed == cell.seed and other.corruption is None and same_choices(other.arm, attack.source):
                return other
        raise Refused(f"attack {attack.name} crafts on an arm that was refused", remedy="craft on a lawful arm")


def make_plan(spec: Spec) -> Plan:
    """Resolve, check every law on every arm and seed, and name every stage.  Refused arms raise unless skipped."""
    materials, every = Materials(spec), arms(spec)
    _check(spec)
    refused = _refusals(spec, materials, every)
    if refused and (spec.unlawful == "refuse" or len(refused) == len(every)):
        first = next(iter(refused))
        more = f" ({len(refused) - 1} more arms are unlawful too)" if len(refused) > 1 else ""
        rule = refused[first]
        raise Unlawful(
            f"arm '{first}': {rule.reason} (LAWS {rule.law}){more}",
            remedy=f'{rule.remedy}; or set unlawful = "skip" to leave unlawful arms out by name',
            where="vary",
        )
    trainings: dict[str, TrainingNode] = {}
    cells: list[CellNode] = []
    claims: dict[str, tuple[Claim, ...]] = {}
    for seed in spec.seeds:
        data = materials.consortium(seed)
        mark = fingerprint(data)
        for corruption in (None, *spec.corruptions):
            for arm in every:
                if arm.name not in refused:
                    training = _training(spec, arm, seed, corruption, mark)
                    if training is not None and training.digest not in trainings:
                        trainings[training.digest] = training
                        claims[training.digest] = _honest_claims(spec, arm, seed, corruption, data)
                    cells.append(_cell(spec, arm, seed, corruption, training, mark))
    return Plan(spec, materials, every, refused, trainings, tuple(cells), claims)


def _honest_claims(
    spec: Spec, arm: Arm, seed: int, corruption: CorruptionSpec | None, data: Consortium
) -> tuple[Claim, ...]:
    bad = colluders(corruption, data.sites, seed)
    return tuple(claim for claim in planned_claims(spec, arm, data) if claim.site not in bad)


def _refusals(spec: Spec, materials: Materials, every: tuple[Arm, ...]) -> dict[str, Refusal]:
    refused: dict[str, Refusal] = {}
    for seed in spec.seeds:
        data, net = materials.consortium(seed), materials.network(seed)
        for arm in every:
            if arm.name not in refused and (broken := broken_law(spec, arm, data, net)) is not None:
                refused[arm.name] = broken
    return refused


def _check(spec: Spec) -> None:
    for i, made in enumerate(spec.corruptions):
        if spec.audit:
            raise Refused("an audit trains nothing, so nothing can be infected", where=f"corruptions[{i}]")
        if not 0 <= made.corruption.sites < spec.data.shares.sites:
            raise Refused(
                f"{made.corruption.sites} corrupted of {spec.data.shares.sites} sites leave no honest one",
                remedy="corrupt fewer sites",
                where=f"corruptions[{i}].sites",
            )


def _training(spec: Spec, arm: Arm, seed: int, corruption: CorruptionSpec | None, mark: str) -> TrainingNode | None:
    recipe = training_recipe(spec, arm, seed, corruption, mark)
    return None if recipe is None else TrainingNode(digest(recipe), recipe, arm, seed, corruption)


def _cell(
    spec: Spec, arm: Arm, seed: int, corruption: CorruptionSpec | None, training: TrainingNode | None, mark: str
) -> CellNode:
    trained = None if training is None else training.digest
    recipe = model_recipe(spec, arm, seed, trained, mark)
    model = digest(recipe)
    return CellNode(digest(cell_recipe(model, seed)), model, recipe, trained, arm, seed, corruption)
