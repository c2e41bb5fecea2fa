"""Run a plan: train, release, judge, attack; everything finished is skipped, every failure recorded.

Resuming needs nothing but the folder: a training goes on from its last round, a cell from its last finding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

from consilium.core.seal import sealed
from consilium.evidence.storage.write import plain
from consilium.monitor.progress import Ticker
from consilium.monitor.sinks.tracks import Tracks, require_sinks
from consilium.study.evaluate.acceptance import cells_in, state_thresholds, with_verdicts
from consilium.study.evaluate.seals import known_cells
from consilium.study.executors.distributed.folder import make_ready
from consilium.study.executors.distributed.foreign import Foreign
from consilium.study.executors.distributed.worker import occupied
from consilium.study.executors.perform import Prepared, adopted
from consilium.study.executors.scheduler import run_stages
from consilium.study.plan.checks.corruptions import infection_note
from consilium.study.plan.plan import Plan, attack_notes, model_notes
from consilium.study.progress.callbacks import work
from consilium.study.progress.outcome import Outcome
from consilium.study.progress.stage_monitor import Monitor
from consilium.study.spec.code_tables import store_code
from consilium.study.stages.context import Carrier, StageContext
from consilium.study.stages.manifest import study_record
from consilium.study.store.environment import settled
from consilium.study.store.store import Store, write_json

from .choose_executor import executor_for

__all__ = ["introduce", "run_plan"]


def run_plan(
    plan: Plan,
    store: Store,
    command: str,
    quiet: bool = False,
    carrier: Carrier | None = None,
    executor: str = "",
    workers: int = 0,
) -> Outcome:
    """Do everything in ``plan`` that is not done; returns what was done.

    ``executor`` runs the stages, ``workers`` at once (0: as many as the cores allow); a ``carrier`` takes one
    training after the other.
    """
    start, outcome = time.perf_counter(), Outcome()
    require_sinks(plan.spec.track)
    with (
        store.locked(),
        occupied(store, always=":" in executor or executor == "slurm"),
        settled(plan.spec.device, plan.spec.threads),
    ):
        store_code(plan.spec, store.folder)
        context = StageContext(plan, store, carrier=carrier, known=known_cells(store.folder))
        prepared = Prepared(context)
        with (
            executor_for(executor if carrier is None else "serial", workers, prepared) as crew,
            Ticker(work(plan), quiet, workers=crew.workers) as ticker,
            Tracks(plan.spec.track, store.folder, plan.spec.name, ticker.say) as tracks,
        ):
            accept = state_thresholds(plan.spec, store)
            monitor = Monitor(plan, store, ticker, tracks)
            trainings = context.seals.trainings
            record = study_record(plan, command, {}, 0.0, accept=accept, trainings=trainings)
            write_json(store.folder / "study.json", sealed(plain(record)))
            for line in store.links():
                ticker.say(line)
            introduce(plan, ticker.say)
            prepared.teller = monitor.teller
            if isinstance(crew, Foreign):
                make_ready(prepared, command)
            try:
                with nullcontext() if isinstance(crew, Foreign) else adopted(prepared):
                    run_stages(prepared, crew, monitor, outcome)
            finally:  # also when it is stopped: finished stages are recorded
                outcome.seconds = time.perf_counter() - start
                record = study_record(
                    plan,
                    command,
                    context.status,
                    outcome.seconds,
                    context.seals.cells,
                    accept=accept,
                    trainings=trainings,
                )
                record = with_verdicts(record, cells_in(store, record))
                write_json(store.folder / "study.json", sealed(plain(record)))
    return outcome


def introduce(plan: Plan, say: Callable[[str], None]) -> None:
    """Notes on the data for the reader, before anything is trained."""
    data = plan.materials.consortium(plan.spec.seeds[0])
    for line in (*(f"left out or clipped: {one.line()}" for one in data.omitted), *data.cautions):
        say(line)
    for note in (infection_note(corruption, data.classes) for corruption in plan.spec.corruptions):
        if note:
            say(note)
    for note in (
        *attack_notes(plan, data.classes),
        *plan.materials.planner.notes(plan.spec.seeds[0]),
        *model_notes(plan),
    ):
        say(note)
