"""The second step of a cell: what its model is worth, what it cost, and what is claimed of its privacy."""

from __future__ import annotations

import time
from dataclasses import replace

from consilium.core.random import Stream
from consilium.measure.clustered import unit_notes
from consilium.measure.utility import below_chance
from consilium.study.evaluate.cell_mediators import cell_mediators
from consilium.study.evaluate.draft import Draft
from consilium.study.evaluate.evaluate import costs, is_judged, judge
from consilium.study.evaluate.release import inspections
from consilium.study.evaluate.seals import recipe_of, released_seals
from consilium.study.plan.nodes import CellNode
from consilium.study.progress.events import Began

from .context import StageContext
from .origin_choice import origin_of
from .releasing import release_stream

__all__ = ["judge_model"]


def judge_model(context: StageContext, cell: CellNode, draft: Draft) -> bool:
    """Judge the model of ``cell`` unless it was judged; True if there is something new in ``draft``."""
    if is_judged(draft.evidence, context.store.cell(cell.digest)):
        return False
    start_time = time.perf_counter()
    data, model = context.data(cell.seed), context.released(cell.digest)
    context.tell(Began(f"judging {cell.label}"))
    stream = Stream(cell.seed).child("evaluate", cell.digest)
    draft.judged(judge(model, data, stream, context.store.cell(cell.digest)))
    inspected = inspections(model.plain, cell.arm.model, data.public, data.task, release_stream(cell), data.classes)
    draft.evidence = replace(draft.evidence, utility=(*draft.evidence.utility, *inspected))
    draft.note([*unit_notes(data.test.units, "test"), *_inverted(draft, cell.training)])
    origin, sites, caveats = origin_of(context, cell), context.asked.members(cell), cell.member_notes
    draft.evidence = replace(
        draft.evidence, mediators=cell_mediators(model.module, data, sites, cell.seed, " ".join(caveats))
    )
    if (personal := origin.personal()) is not None:
        utility = (*draft.evidence.utility, *personal.judge(model.module))
        draft.evidence = replace(draft.evidence, utility=utility)
        draft.note(personal.notes())
    judged = released_seals(recipe_of(context.store.model(cell.model)))
    trained = context.seals.training_files(cell.training)
    draft.evidence = replace(draft.evidence, released=judged, trained=trained, privacy=origin.privacy())
    rounds = origin.rounds()
    origin.record_merges(draft, rounds)
    cost = costs(model, data, rounds, origin.target_accuracy)
    seconds = {"training": sum(r["seconds"] for r in rounds), "evaluation": time.perf_counter() - start_time}
    draft.evidence = replace(draft.evidence, cost=cost, seconds=seconds)
    return True


def _inverted(draft: Draft, training: str | None) -> list[str]:
    """A model that is wholly below chance: of a model that was given, its classes may be in another order."""
    if not below_chance(draft.evidence.utility):
        return []
    guess = "worse than guessing: do the labels of training and test agree?"
    why = guess if training else "the order of the classes may be inverted."
    return [f"AUROC or accuracy lies wholly below chance, {why}"]
