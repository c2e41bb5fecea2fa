"""The summary of a plan before it is run: arms with their epsilon, what is done already, and the time for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from consilium.measure.accounting.privacy import UNITS, maximum
from consilium.study.evaluate.shadow_training import shadows_wanted
from consilium.study.plan.checks.corruptions import infection_note
from consilium.study.plan.nodes import CellNode
from consilium.study.plan.plan import Plan, attack_notes, model_notes
from consilium.study.spec.arms import Arm
from consilium.study.spec.thresholds import canonical_thresholds
from consilium.study.store.store import Store

from .choose_executor import default_workers
from .cost_estimate import expected_seconds, unfinished, unfinished_shadows

__all__ = ["ArmSummary", "CellSummary", "PlanSummary", "RefusedArm", "plan_summary"]


class CellSummary(TypedDict):
    """One model: its epsilon is what it will cost the honest site that pays most, by unit."""

    cell: str
    seed: int
    infected_by: str
    epsilon: dict[str, float]


class ArmSummary(TypedDict):
    """A lawful arm; its claim is the strongest unit's, None without one."""

    arm: str
    status: Literal["lawful"]
    trainings: list[str]
    epsilon: float | None
    delta: float | None
    unit: str | None
    adjacency: str | None
    noise_multiplier: list[float] | None
    claims: list[dict[str, object]]
    cells: list[CellSummary]


class RefusedArm(TypedDict):
    """An arm that some law forbids."""

    arm: str
    status: Literal["refused"]
    refusal: dict[str, object]


class PlanSummary(TypedDict):
    """The whole plan."""

    study: str
    seeds: list[int]
    arms: list[ArmSummary | RefusedArm]
    omitted: list[str]
    notes: list[str]
    trainings: int
    trainings_to_do: int
    shadows: int
    shadows_to_do: int
    models: int
    cells: int
    attacks_per_cell: int
    workers: int
    expected_seconds: float


def plan_summary(plan: Plan, store: Store | None) -> dict[str, object]:
    """Plain JSON; ``expected_seconds`` covers the trainings, shadows among them, that are still to do.

    It is that of a run as it is by itself here, with so many ``workers``.
    """
    data = plan.materials.consortium(plan.spec.seeds[0])
    todo, shadows = unfinished(plan, store), unfinished_shadows(plan, store)
    jobs = {node.digest for node in todo} | {training for training, count in shadows.items() if count}
    workers = default_workers(plan.spec, len(jobs))
    cells: dict[str, list[CellNode]] = {}
    for cell in plan.cells:
        cells.setdefault(cell.arm.name, []).append(cell)
    summary: PlanSummary = {
        "study": plan.spec.name,
        "seeds": list(plan.spec.seeds),
        "arms": [_arm(plan, arm, cells.get(arm.name, ())) for arm in plan.arms],
        "omitted": [one.line() for one in data.omitted],
        "notes": [
            *data.cautions,
            *(note for entry in plan.spec.corruptions if (note := infection_note(entry, data.classes))),
            *attack_notes(plan, data.classes),
            *(note for seed in plan.spec.seeds for note in plan.materials.planner.notes(seed)),
            *model_notes(plan),
        ],
        "trainings": len(plan.trainings),
        "trainings_to_do": len(todo),
        "shadows": sum(shadows_wanted(plan).values()),
        "shadows_to_do": sum(shadows.values()),
        "models": len({cell.model for cell in plan.cells}),
        "cells": len(plan.cells),
        "attacks_per_cell": len(plan.spec.attacks),
        "workers": workers,
        "expected_seconds": round(expected_seconds(plan, todo, shadows, workers), 1),
    }
    thresholds = {"accept": canonical_thresholds(plan.spec)} if plan.spec.accept else {}
    return {**summary, **thresholds}


def _arm(plan: Plan, arm: Arm, cells: Sequence[CellNode]) -> ArmSummary | RefusedArm:
    if arm.name in plan.refused:
        return {"arm": arm.name, "status": "refused", "refusal": plan.refused[arm.name].to_json()}
    clean = sorted({node.digest for c in cells if c.corruption is None for node in c.after})
    claims = [claim for digest in clean for claim in plan.claims[digest]]
    unit = next((u for u in UNITS if maximum(claims, u) is not None), None)
    unit_claims = [claim for claim in claims if claim.unit == unit]
    noise = [c.noise_multiplier for c in unit_claims if c.noise_multiplier is not None]
    return {
        "arm": arm.name,
        "status": "lawful",
        "trainings": clean,
        "epsilon": None if unit is None else maximum(claims, unit),
        "delta": max((c.delta for c in unit_claims), default=None),
        "unit": unit,
        "adjacency": next((c.adjacency for c in unit_claims), None),
        "noise_multiplier": [min(noise), max(noise)] if noise else None,
        "claims": [c.to_json() for c in claims],
        "cells": [_cell(plan, cell) for cell in cells],
    }


def _cell(plan: Plan, cell: CellNode) -> CellSummary:
    claims = [claim for node in cell.after for claim in plan.claims[node.digest]]
    spent = {unit: maximum(claims, unit) for unit in UNITS}
    return {
        "cell": cell.digest,
        "seed": cell.seed,
        "infected_by": cell.infected_by,
        "epsilon": {unit: value for unit, value in spent.items() if value is not None},
    }
