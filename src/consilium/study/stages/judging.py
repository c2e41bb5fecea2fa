"""The second step of a cell: what its model is worth, what it cost, and what is claimed of its privacy."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from consilium.core.random import Stream
from consilium.evidence.privacy import PrivacyEvidence
from consilium.study.build.engine_choice import engine_record, is_deployed
from consilium.study.build.factory import colluders
from consilium.study.evaluate.aggregation_notes import merge_notes, merge_record
from consilium.study.evaluate.cell_mediators import cell_mediators
from consilium.study.evaluate.draft import Draft
from consilium.study.evaluate.evaluate import costs, is_judged, judge
from consilium.study.evaluate.seals import recipe_of, released_seals
from consilium.study.plan.plan import CellNode
from consilium.study.plan.privacy_claims import central_claims, claim_notes, made_claims, privacy_record
from consilium.study.store.store import read_rounds, read_stored

from .context import StageContext
from .events import Began
from .releasing import personal_models

__all__ = ["judge_model"]


def judge_model(context: StageContext, cell: CellNode, draft: Draft) -> bool:
    """Judge the model of ``cell`` unless it was judged; True if there is something new in ``draft``."""
    if is_judged(draft.evidence, context.store.cell(cell.digest)):
        return False
    began = time.perf_counter()
    data, model = context.data(cell.seed), context.released(cell.digest)
    context.tell(Began(f"judging {cell.label}"))
    stream = Stream(cell.seed).child("evaluate", cell.digest)
    draft.judged(judge(model, data, stream, context.store.cell(cell.digest)))
    sites, caveats = context.asked.members(cell), context.asked.unknown_members(cell)
    draft.evidence = replace(
        draft.evidence, mediators=cell_mediators(model.module, data, sites, cell.seed, " ".join(caveats))
    )
    if (personal := personal_models(context, cell)) is not None:
        utility = (*draft.evidence.utility, *personal.judge(model.module))
        draft.evidence = replace(draft.evidence, utility=utility)
        draft.note(personal.notes())
    judged = released_seals(recipe_of(context.store.model(cell.model)))
    trained = context.seals.training_files(cell.training)
    draft.evidence = replace(draft.evidence, released=judged, trained=trained, privacy=_privacy(context, cell))
    rounds = _rounds(context, cell)
    _merges(context, cell, draft, rounds)
    shape = None if context.plan.spec.federation is None else context.plan.spec.federation.shape
    cost = costs(model, data, rounds, 0.0 if shape is None else shape.target_accuracy)
    seconds = {"training": sum(r["seconds"] for r in rounds), "evaluation": time.perf_counter() - began}
    draft.evidence = replace(draft.evidence, cost=cost, seconds=seconds)
    return True


def _merges(context: StageContext, cell: CellNode, draft: Draft, rounds: list[Mapping[str, Any]]) -> None:
    """What carried the rounds, and how they were merged."""
    if cell.training is None:
        return
    engine = engine_record(context.store.training(cell.training)) or draft.evidence.engine
    merges = merge_record(context.plan.spec, cell.arm, context.data(cell.seed), engine, rounds)
    draft.evidence = replace(draft.evidence, engine=engine, merge=merges)
    draft.note(merge_notes(rounds))


def _privacy(context: StageContext, cell: CellNode) -> PrivacyEvidence:
    spec, data = context.plan.spec, context.data(cell.seed)
    if cell.training is None:
        return privacy_record((), ["An existing model: nothing is known of how it was trained, so nothing is claimed."])
    folder = context.store.training(cell.training)
    _, sites = context.checkpoint(cell.training)
    why = (read_stored(folder / "training.json") or {}).get("stopped")
    ledgers = {site: state.ledger for site, state in sites.items()}
    engine = engine_record(folder)
    deployed = engine if is_deployed(engine) else None
    claims = made_claims(cell.arm, data, ledgers, context.asked.honest(cell), deployed)
    claims = (*claims, *central_claims(spec, cell.arm, data))
    notes = claim_notes(spec, claims, colluders(cell.corruption, data.sites, cell.seed))
    return privacy_record(claims, notes if why is None else [*notes, f"{why} (LAWS 13)"])


def _rounds(context: StageContext, cell: CellNode) -> list[Mapping[str, Any]]:
    return [] if cell.training is None else read_rounds(context.store, cell.training)
