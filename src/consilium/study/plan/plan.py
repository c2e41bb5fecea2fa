"""The plan: trainings, models and cells as a graph, each named by the digest of what it depends on.

Arms that differ only after training share their training; what is finished is not in the way: `run` skips it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from consilium.core.errors import Refused, Unlawful
from consilium.core.network import Network
from consilium.core.records import Consortium
from consilium.core.threat import BackdoorView
from consilium.measure.accounting.privacy import Claim
from consilium.study.build.factory import colluders, consortium
from consilium.study.build.model_start import trained_note
from consilium.study.plan.checks.radii import check_radii
from consilium.study.spec.arms import Arm, arms, by_model, model_key, models, same_choices
from consilium.study.spec.spec import AttackSpec, Spec
from consilium.study.store.environment import require_device

from .case import Refusal
from .nodes import CellNode, TrainingNode
from .planner import planner_for
from .privacy_claims import planned_claims
from .stage_keys import data_digest, start_mark

__all__ = ["Materials", "Plan", "attack_notes", "make_plan", "model_notes"]


class Materials:
    """Data and untrained networks by seed; a few seeds are kept, the rest are made again when they are asked for."""

    def __init__(self, spec: Spec, gathered: Callable[[int], Consortium] | None = None) -> None:
        self.spec, self.planner = spec, planner_for(spec)
        self.consortium = lru_cache(maxsize=3)(self._consortium if gathered is None else gathered)
        self._networks = lru_cache(maxsize=3 * len(models(spec)))(self._network)
        self._known_marks = lru_cache(maxsize=None)(self._marks)
        self._known_notes = lru_cache(maxsize=None)(self._start_notes)

    def _consortium(self, seed: int) -> Consortium:
        data = consortium(self.spec, seed)
        short = self.planner.shortfalls(data)
        notes = (*data.notes, *short, *self.planner.notes(seed))
        return replace(data, notes=notes, cautions=(*data.cautions, *short))

    def network(self, seed: int, arm: Arm | None = None) -> Network:
        """The model of ``arm`` before training; None stands for one that keeps the study's own."""
        return self._networks(seed, self._model(arm))

    def marks(self, seed: int, arm: Arm | None = None) -> tuple[str, str]:
        """What data and untrained model are, in 16 digits each."""
        return self._known_marks(seed, self._model(arm))

    def start_notes(self, seed: int, arm: Arm | None = None) -> tuple[str, ...]:
        """What every reader must know of where the model of ``arm`` starts, and of what in it trains."""
        return self._known_notes(seed, self._model(arm))

    def _model(self, arm: Arm | None) -> str:
        return model_key(self.spec.start if arm is None else arm.study(self.spec).start)

    def _network(self, seed: int, model: str) -> Network:
        return self.planner.network(models(self.spec)[model], self.consortium(seed), seed)

    def _marks(self, seed: int, model: str) -> tuple[str, str]:
        return data_digest(self.consortium(seed)), start_mark(self._networks(seed, model))

    def _start_notes(self, seed: int, model: str) -> tuple[str, ...]:
        data = self.consortium(seed)
        trained = trained_note(self._networks(seed, model))
        return (*trained, *self.planner.start_notes(models(self.spec)[model], data, seed))


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """Everything a study will do, before it does anything."""

    spec: Spec
    materials: Materials
    arms: tuple[Arm, ...]
    refused: Mapping[str, Refusal]
    trainings: Mapping[str, TrainingNode]
    cells: tuple[CellNode, ...]
    claims: Mapping[str, tuple[Claim, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        refused = f", {len(self.refused)} of them refused" if self.refused else ""
        counts = f"{len(self.arms)} arms{refused}; {len(self.trainings)} trainings, {len(self.cells)} cells"
        return f"Plan({self.spec.name}: {counts})"

    def source(self, attack: AttackSpec, cell: CellNode) -> CellNode | None:
        """The cell that a transfer attack crafts on: the clean one of the same seed and the named arm.

        Of what judges a backdoor it is the clean twin.

        Raises Refused: the named arm was refused.
        """
        if attack.attack.needs is BackdoorView:
            return self._twin(cell)
        if attack.source is None:
            return None
        for other in self.cells:
            if other.seed == cell.seed and other.corruption is None and same_choices(other.arm, attack.source):
                return other
        raise Refused(f"attack {attack.name} crafts on an arm that was refused", remedy="craft on a lawful arm")

    def _twin(self, cell: CellNode) -> CellNode | None:
        """The clean cell of the same arm and seed; None of a clean one."""
        clean = (one for one in self.cells if one.corruption is None)
        same = (one for one in clean if (one.arm.name, one.seed) == (cell.arm.name, cell.seed))
        return None if cell.corruption is None else next(same, None)


def attack_notes(plan: Plan, classes: Sequence[str]) -> tuple[str, ...]:
    """What the attacks of the study do on data of these ``classes``, where their kind does not say it."""
    described = ((entry, entry.attack.describe(classes)) for entry in plan.spec.attacks)
    return tuple(f"{entry.name} {deed}" for entry, deed in described if deed)


def model_notes(plan: Plan) -> tuple[str, ...]:
    """Where the models of the study start and what of them trains, each after the arms that it is of."""
    seed, notes = plan.spec.seeds[0], dict[str, str]()
    groups = by_model(plan.spec, [arm for arm in plan.arms if arm.name not in plan.refused])
    for same in groups:
        names = same[0].name if len(same) == 1 else f"{same[0].name} and {len(same) - 1} more"
        for note in plan.materials.start_notes(seed, same[0]):
            notes[note] = f"{notes[note].partition(':')[0]}, {names}" if note in notes else names
    return tuple(note if len(groups) == 1 else f"{names}: {note}" for note, names in notes.items())


def make_plan(
    spec: Spec,
    gathered: Callable[[int], Consortium] | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Plan:
    """Resolve, check every law on every arm and seed, and name every stage.  Refused arms raise unless skipped.

    ``gathered`` gives the consortium of a seed where it is not the study's own data, divided.  ``progress`` is told
    what is done, and of how many.

    Raises Unlawful: an arm breaks a law and is not to be skipped, or every arm breaks one.
    """
    require_device(spec.device)
    materials, every, sample = Materials(spec, gathered), arms(spec), spec.seeds[0]
    planner = materials.planner
    planner.check_study(spec.data.shares.sites if gathered is None else len(gathered(sample).sites))
    check_radii(spec, materials.consortium(sample).shape)
    planner.check_data(materials.consortium)
    _check_fit(spec, materials.consortium(sample))
    planner.check_attacks(every, materials.consortium(sample))
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
    lawful = [arm for arm in every if arm.name not in refused]
    for same in by_model(spec, lawful):
        planner.check_lawful(same, materials.consortium(sample), materials.network(sample, same[0]))
    trainings: dict[str, TrainingNode] = {}
    cells: list[CellNode] = []
    claims: dict[str, tuple[Claim, ...]] = {}
    for seed in spec.seeds:
        data = materials.consortium(seed)
        for corruption in (None, *spec.corruptions):
            cells += [planner.cell(arm, seed, corruption, materials.marks(seed, arm), trainings) for arm in lawful]
            claims |= {name: _honest_claims(node, data) for name, node in trainings.items() if name not in claims}
            progress("cells named", len(cells), len(spec.seeds) * (1 + len(spec.corruptions)) * len(lawful))
    _check_apart(cells)
    return Plan(spec, materials, every, refused, trainings, tuple(cells), claims)


def _honest_claims(node: TrainingNode, data: Consortium) -> tuple[Claim, ...]:
    bad = colluders(node.corruption, data.sites, node.seed)
    return tuple(claim for claim in planned_claims(node.spec, node.arm, data) if claim.site not in bad)


def _refusals(
    spec: Spec, materials: Materials, every: tuple[Arm, ...], progress: Callable[[str, int, int], None]
) -> dict[str, Refusal]:
    refused: dict[str, Refusal] = {}
    for i, seed in enumerate(spec.seeds):
        data = materials.consortium(seed)
        materials.planner.check_seed(data, seed)
        for j, arm in enumerate(every):
            progress("arms checked", i * len(every) + j, len(spec.seeds) * len(every))
            if arm.name in refused:
                continue
            net = materials.network(seed, arm)
            if (broken := materials.planner.broken_law(arm, data, net)) is not None:
                refused[arm.name] = broken
    return refused


def _check_fit(spec: Spec, data: Consortium) -> None:
    """Refuse an attack that cannot run on inputs of the shape of ``data``, by its place in the study."""
    for i, attack in enumerate(spec.attacks):
        try:
            attack.attack.check_task(data.task)
            attack.attack.check_inputs(data.inputs)
            attack.attack.check_fit(tuple(data.shape), len(data.classes))
            _check_public(attack, data)
        except Refused as error:
            raise error.at(f"attacks[{i}]") from error


def _check_public(spec: AttackSpec, data: Consortium) -> None:
    if spec.attack.fits_public() and not len(data.public):
        raise Refused(
            f"{spec.attack.kind()} is fitted on public records and there are none",
            remedy="set data.public to the share to take out before partition, for example 0.05",
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
