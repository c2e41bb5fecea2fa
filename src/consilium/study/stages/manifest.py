"""What is written of a study and of a cell before any figure: enough to read the figures years later.

Fields are only ever added; a reader tolerates those it does not know.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from consilium.core.entry import Entry
from consilium.core.plain import Json
from consilium.core.records import Consortium
from consilium.data.division.sites import label_counts
from consilium.evidence.acceptance import AcceptanceEvidence
from consilium.evidence.cell import CellEvidence, CellName
from consilium.evidence.storage.read import SCHEMA
from consilium.evidence.study import (
    ArmEvidence,
    CellEntry,
    DataEvidence,
    DefenceEvidence,
    OmissionEvidence,
    RefusalEvidence,
    RepeatedEvidence,
    StudyEvidence,
)
from consilium.evidence.threat import ThreatEvidence
from consilium.study.build.factory import colluders
from consilium.study.plan.checks.corruptions import infection_note
from consilium.study.plan.checks.weak_knobs import weak_knobs
from consilium.study.plan.nodes import CellNode
from consilium.study.plan.plan import Plan
from consilium.study.plan.privacy_claims import privacy_record
from consilium.study.spec.arms import Arm
from consilium.study.spec.spec import Spec
from consilium.study.store.environment import code, hardware, packages

__all__ = ["cell_name", "cell_record", "given", "study_record"]


def cell_name(cell: CellNode) -> CellName:
    """Which cell of the study this is."""
    return CellName(cell.digest, cell.arm.name, dict(cell.arm.choices), cell.seed, cell.infected_by)


def given(spec: Spec) -> Mapping[str, Json]:
    """The study as it was written, in plain JSON."""
    plain: Mapping[str, Json] = json.loads(json.dumps(spec.given, default=repr))
    return plain


def cell_record(plan: Plan, cell: CellNode) -> CellEvidence:
    """``evidence.json`` before anything was measured."""
    spec = plan.spec
    data = plan.materials.consortium(cell.seed)
    return CellEvidence(
        schema=SCHEMA,
        status="started",
        cell=cell_name(cell),
        given=given(spec),
        resolved={"training": cell.training_recipe, "model": dict(cell.model_recipe)},
        training=cell.training,
        model=cell.model,
        code=code(),
        packages=packages(),
        hardware=hardware(spec.device, spec.threads),
        engine=cell.engine,
        seeds=(cell.seed,),
        corrupted=tuple(colluders(cell.corruption, data.sites, cell.seed)),
        adversary=_adversary(cell),
        privacy=privacy_record((), []),
        notes=(
            f"data: {data.provenance}",
            *_infection(cell, data.classes),
            *data.notes,
            *plan.materials.start_notes(cell.seed, cell.arm),
            *weak_knobs(_defences(cell), len(data.classes)),
        ),
        seconds={"training": 0.0, "evaluation": 0.0},
    )


def _adversary(cell: CellNode) -> ThreatEvidence | None:
    if cell.corruption is None:
        return None
    return ThreatEvidence.of(cell.corruption.corruption.threat, cell.corruption.corruption.nist)


def _infection(cell: CellNode, classes: Sequence[str]) -> tuple[str, ...]:
    note = "" if cell.corruption is None else infection_note(cell.corruption, classes)
    return (note,) if note else ()


def _defences(cell: CellNode) -> tuple[Entry, ...]:
    """What is in the model: the arm's defences, and the corruption."""
    return (*cell.arm.defences, *([] if cell.corruption is None else [cell.corruption.corruption]))


def study_record(
    plan: Plan,
    command: str,
    status: Mapping[str, str],
    seconds: float,
    seals: Mapping[str, str | None] | None = None,
    repeated: tuple[int, Sequence[str]] = (0, ()),
    accept: AcceptanceEvidence | None = None,
    trainings: Mapping[str, Mapping[str, object]] | None = None,
) -> StudyEvidence:
    """``study.json``; ``seals`` are those of the cells' evidence, by digest, as far as it is done.

    ``repeated`` says how many stages were done twice, and the keys of those that ended otherwise.
    ``trainings`` are the digests of what the trainings left, likewise.
    """
    spec = plan.spec
    return StudyEvidence(
        schema=SCHEMA,
        name=spec.name,
        question=spec.question,
        study=given(spec),
        resolved=_resolved(spec),
        axes={axis: tuple(c.label for c in choices) for axis, choices in spec.vary.items()},
        defences=_choices(spec),
        seeds=tuple(spec.seeds),
        data=_data(plan.materials.consortium(spec.seeds[0])),
        arms=tuple(_arm(plan, arm) for arm in plan.arms),
        cells=tuple(_entry(cell, status.get(cell.digest, "started"), seals or {}) for cell in plan.cells),
        command=command,
        threads=spec.threads,
        device=spec.device,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seconds=seconds,
        repeated=RepeatedEvidence(repeated[0], tuple(repeated[1])) if repeated[0] else None,
        accept=accept,
        trainings={name: digests for name, digests in (trainings or {}).items() if name in plan.trainings} or None,
    )


def _resolved(spec: Spec) -> Mapping[str, object]:
    return {
        "data": spec.data.configuration(),
        "model": spec.model.configuration(),
        "federation": spec.training_configuration(),
        "attacks": {a.name: a.configuration() for a in spec.attacks},
        "corruptions": {c.name: c.configuration() for c in spec.corruptions},
        "max-epsilon": spec.max_epsilon,
        "audit": None if spec.canaries is None else spec.canaries.configuration(),
    }


def _choices(spec: Spec) -> tuple[DefenceEvidence, ...]:
    """Those of every choice, with the risks by which combinations are predicted to conflict."""
    choices = [(axis, choice) for axis, some in spec.vary.items() for choice in some]
    return tuple(
        DefenceEvidence(axis, choice.label, one.kind(), one.phase, tuple(one.mitigates), tuple(one.uses))
        for axis, choice in choices
        for one in choice.defences
    )


def _data(data: Consortium) -> DataEvidence:
    pools = [site.records for site in data.sites]
    return DataEvidence(
        name=data.name,
        provenance=data.provenance,
        bundled=data.bundled,
        shape=tuple(data.shape),
        classes=tuple(data.classes),
        sites=tuple(site.id for site in data.sites),
        label_counts=() if data.declared else tuple(tuple(row) for row in label_counts(data)),
        pools={
            "train": [len(p.train) for p in pools],
            "validation": [len(p.validation) for p in pools],
            "non_members": [len(p.non_members) for p in pools],
            "test": len(data.test),
            "public": len(data.public),
        },
        removed=dict(data.removed),
        omitted=tuple(OmissionEvidence(**asdict(one)) for one in data.omitted),
        notes=tuple(data.notes),
    )


def _arm(plan: Plan, arm: Arm) -> ArmEvidence:
    refusal = plan.refused.get(arm.name)
    if refusal is None:
        return ArmEvidence(arm.name, dict(arm.choices), "lawful")
    why = RefusalEvidence(refusal.law, refusal.reason, refusal.remedy)
    return ArmEvidence(arm.name, dict(arm.choices), "refused", why)


def _entry(cell: CellNode, status: str, seals: Mapping[str, str | None]) -> CellEntry:
    return CellEntry(
        digest=cell.digest,
        arm=cell.arm.name,
        seed=cell.seed,
        infected_by=cell.infected_by,
        training=cell.training,
        model=cell.model,
        status=status,
        seal=seals.get(cell.digest),
    )
