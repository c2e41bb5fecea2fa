"""The plan: trainings, models and cells as a graph, each named by the digest of what it depends on.

Arms that differ only after training share their training; what is finished is not in the way: `run` skips it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from consilium.core.defence import AnswerDefence, ModelDefence
from consilium.core.errors import Refused, Unlawful
from consilium.core.network import Network
from consilium.core.records import Consortium
from consilium.core.rounding import round_down, round_up
from consilium.federate.round.weights import fewest_sites
from consilium.measure.accounting.privacy import Claim
from consilium.study.build.engine_choice import check_engine
from consilium.study.build.factory import colluders, consortium, network
from consilium.study.build.pretrained import stored_network
from consilium.study.spec.arms import Arm, arms, same_choices
from consilium.study.spec.spec import AttackSpec, CorruptionSpec, FederationShape, Spec
from consilium.study.store.environment import require_device

from .attack_checks import check_attacks
from .corruption_checks import check_infections
from .division import check_division, division_note
from .observer_checks import check_observers
from .privacy_claims import planned_claims
from .radius_checks import check_radii
from .rules import Refusal, broken_law
from .shadow_pool import check_retraining
from .shortfalls import shortfalls
from .stage_keys import cell_recipe, data_digest, digest, model_recipe, start_mark, training_recipe

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

    def __init__(self, spec: Spec, gathered: Callable[[int], Consortium] | None = None) -> None:
        self.spec = spec
        self.consortium = lru_cache(maxsize=3)(self._consortium if gathered is None else gathered)
        self.network = lru_cache(maxsize=3)(self._network)
        self.marks = lru_cache(maxsize=None)(self._marks)

    def _consortium(self, seed: int) -> Consortium:
        data = consortium(self.spec, seed)
        short = shortfalls(self.spec, data)
        notes = (*data.notes, *short, *((division_note(seed),) if self.spec.audit else ()))
        return replace(data, notes=notes, cautions=(*data.cautions, *short))

    def _network(self, seed: int) -> Network:
        data = self.consortium(seed)
        return stored_network(self.spec, data) if self.spec.audit else network(self.spec, data, seed)

    def _marks(self, seed: int) -> tuple[str, str]:
        """What data and untrained model are, in 16 digits each."""
        return data_digest(self.consortium(seed)), start_mark(self.network(seed))


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


def make_plan(
    spec: Spec,
    gathered: Callable[[int], Consortium] | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Plan:
    """Resolve, check every law on every arm and seed, and name every stage.  Refused arms raise unless skipped.

    ``gathered`` gives the consortium of a seed where it is not the study's own data, divided.  ``progress`` is told
    what is done, and of how many.
    """
    _check(spec, spec.data.shares.sites if gathered is None else len(gathered(spec.seeds[0]).sites))
    materials, every = Materials(spec, gathered), arms(spec)
    check_radii(spec, materials.consortium(spec.seeds[0]).shape)
    if spec.audit:
        check_division(spec, materials.consortium)
    check_attacks(spec, materials.consortium(spec.seeds[0]))
    check_retraining(spec, every, materials.consortium(spec.seeds[0]))
    check_observers(spec, materials.consortium(spec.seeds[0]))
    refused = _refusals(spec, materials, every, progress)
    if refused and (spec.unlawful == "refuse" or len(refused) == len(every)):
        first = next(iter(refused))
        others = len(refused) - 1
        more = f" ({others} more arm{'s are' if others > 1 else ' is'} unlawful too)" if others else ""
        rule = refused[first]
        raise Unlawful(
            f"arm '{first}': {rule.reason} (LAWS {rule.law}){more}",
            remedy=f'{rule.remedy}; or set unlawful = "skip" to leave unlawful arms out by name',
            where="vary",
        )
    _check_sources(spec, every, refused)
    lawful, sample = [arm for arm in every if arm.name not in refused], spec.seeds[0]
    check_engine(spec, lawful, materials.consortium(sample), materials.network(sample))
    trainings: dict[str, TrainingNode] = {}
    cells: list[CellNode] = []
    claims: dict[str, tuple[Claim, ...]] = {}
    for seed in spec.seeds:
        data, marks = materials.consortium(seed), materials.marks(seed)
        for corruption in (None, *spec.corruptions):
            for arm in every:
                if arm.name not in refused:
                    training = _training(spec, arm, seed, corruption, marks)
                    if training is not None and training.digest not in trainings:
                        trainings[training.digest] = training
                        claims[training.digest] = _honest_claims(spec, arm, seed, corruption, data)
                    cells.append(_cell(spec, arm, seed, corruption, training, marks))
            progress("cells named", len(cells), len(spec.seeds) * (1 + len(spec.corruptions)) * len(lawful))
    _check_apart(cells)
    return Plan(spec, materials, every, refused, trainings, tuple(cells), claims)


def _honest_claims(
    spec: Spec, arm: Arm, seed: int, corruption: CorruptionSpec | None, data: Consortium
) -> tuple[Claim, ...]:
    bad = colluders(corruption, data.sites, seed)
    return tuple(claim for claim in planned_claims(spec, arm, data) if claim.site not in bad)


def _refusals(
    spec: Spec, materials: Materials, every: tuple[Arm, ...], progress: Callable[[str, int, int], None]
) -> dict[str, Refusal]:
    refused: dict[str, Refusal] = {}
    for i, seed in enumerate(spec.seeds):
        data = materials.consortium(seed)
        check_infections(spec, data, seed)
        net = materials.network(seed)
        for j, arm in enumerate(every):
            progress("arms checked", i * len(every) + j, len(spec.seeds) * len(every))
            if arm.name not in refused and (broken := broken_law(spec, arm, data, net)) is not None:
                refused[arm.name] = broken
    return refused


def _check(spec: Spec, sites: int) -> None:
    require_device(spec.device)
    if spec.audit:
        _check_audit(spec)
    if spec.federation is not None:
        _check_cohort(spec.federation.shape, sites)
    for i, made in enumerate(spec.corruptions):
        if spec.audit:
            raise Refused(
                "a study of a trained model trains nothing: nothing can be infected", where=f"corruptions[{i}]"
            )
        if not 0 <= made.corruption.sites < spec.data.shares.sites:
            raise Refused(
                f"{made.corruption.sites} corrupted of {spec.data.shares.sites} sites leave no honest one",
                remedy="corrupt fewer sites",
                where=f"corruptions[{i}].sites",
            )


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


def _check_audit(spec: Spec) -> None:
    """What acts while training cannot act where nothing is trained, and nothing switches itself off."""
    for axis, choices in spec.vary.items():
        for choice in choices:
            for defence in choice.defences:
                if not isinstance(defence, ModelDefence | AnswerDefence):
                    raise Refused(
                        f"a study of a trained model trains nothing, so {defence.kind()} cannot act",
                        remedy="choose defences of the model or of its answers",
                        where=f"vary.{axis}",
                    )


def _check_sources(spec: Spec, every: tuple[Arm, ...], refused: Mapping[str, Refusal]) -> None:
    """A transfer attack needs the arm that it crafts on."""
    for i, attack in enumerate(spec.attacks):
        for arm in every:
            if attack.source is not None and same_choices(arm, attack.source) and arm.name in refused:
                raise Refused(
                    f"{attack.name} crafts on the arm '{arm.name}', which is unlawful: {refused[arm.name].reason}",
                    remedy="craft on a lawful arm",
                    where=f"attacks[{i}].from",
                )


def _check_apart(cells: list[CellNode]) -> None:
    """Two cells of one digest are one model under two names."""
    known: dict[str, CellNode] = {}
    for cell in cells:
        twin = known.setdefault(cell.digest, cell)
        if twin is not cell:
            raise Refused(
                f"{twin.label} and {cell.label} are one and the same model", remedy="remove one of them", where="vary"
            )


def _training(
    spec: Spec, arm: Arm, seed: int, corruption: CorruptionSpec | None, marks: tuple[str, str]
) -> TrainingNode | None:
    recipe = training_recipe(spec, arm, seed, corruption, *marks)
    return None if recipe is None else TrainingNode(digest(recipe), recipe, arm, seed, corruption)


def _cell(
    spec: Spec,
    arm: Arm,
    seed: int,
    corruption: CorruptionSpec | None,
    training: TrainingNode | None,
    marks: tuple[str, str],
) -> CellNode:
    trained = None if training is None else training.digest
    recipe = model_recipe(spec, arm, seed, trained, *marks)
    model = digest(recipe)
    return CellNode(digest(cell_recipe(model, seed)), model, recipe, trained, arm, seed, corruption)
