"""`consilium work`: one of any number of workers in a folder, started by anything, on any machine that sees the folder.

Each claims a stage that is ready, does it, says that it has ended, and looks for the next.  A stage whose worker died
is gone on with from its last round.  Whoever finds that everything has ended writes the study's record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from consilium.core.errors import Refused
from consilium.core.seal import sealed
from consilium.evidence.storage.write import plain
from consilium.monitor.eta import Kind
from consilium.monitor.interrupt import check_interrupt
from consilium.monitor.progress import Ticker
from consilium.monitor.sinks.tracks import Tracks
from consilium.study.evaluate.acceptance import cells_in, state_thresholds, with_verdicts
from consilium.study.executors.perform import Prepared
from consilium.study.executors.scheduler import ready
from consilium.study.progress.callbacks import rounds_kind, training_curve, work
from consilium.study.progress.events import CurveBegan, CurveEnded, ShadowsOver, Skipped
from consilium.study.progress.outcome import Outcome
from consilium.study.progress.stage_monitor import Monitor
from consilium.study.stages.evaluation import EvaluateStage
from consilium.study.stages.manifest import study_record
from consilium.study.stages.stage import Stage
from consilium.study.stages.training import TrainStage
from consilium.study.store.environment import settled
from consilium.study.store.store import Store, write_json

from .folder import Ended, comparisons, is_prepared, output_digest, prepared_in, refuse_workers
from .lease import PATIENCE, Lease, LeaseLost, Leases, Observed

__all__ = ["RUN", "Worked", "carry_out", "conclude_study", "occupied", "work_in"]

RUN, _FINISH = "run", "finish"
"""The leases of a run of the whole folder, and of writing the study's record."""
_SHORTEST, _LONGEST = 0.1, 5.0
"""Seconds between two looks where nothing is ready."""


@contextmanager
def occupied(store: Store, *, always: bool = False) -> Iterator[None]:
    """Keep workers on other machines out of a folder that was prepared for them, while a run writes to it.

    Raises Refused: a worker is in it.
    """
    if not always and not is_prepared(store):
        yield
        return
    leases = Leases(store.folder)
    refuse_workers(store, leases)
    with leases.claim(RUN) or nullcontext():
        yield


@dataclass(frozen=True)
class Worked:
    """What one worker did; ``whole`` if the study was finished by the end, ``last`` if this worker wrote its record."""

    folder: Path
    outcome: Outcome
    whole: bool
    last: bool


def work_in(
    folder: Path, finish: Callable[[Path], object] = lambda _: None, patience: float = PATIENCE, quiet: bool = False
) -> Worked:
    """Do stages of the study in ``folder`` until all have ended; ``finish`` is called by the one that ends it.

    A lease that nobody renews is dead after ``patience`` seconds.

    Raises Refused: the folder was not prepared, or a run is writing to it.
    """
    prepared, command = prepared_in(folder)
    context, outcome = prepared.context, Outcome()
    leases, start_time = Leases(context.store.folder, Observed(patience)), time.perf_counter()
    plan = context.plan
    with (
        context.store.shared(),
        settled(plan.spec.device, plan.spec.threads),
        Ticker(work(plan), quiet) as ticker,
        Tracks((), folder, plan.spec.name, ticker.say) as tracks,
    ):
        if not leases.dies(RUN):
            raise Refused(f"a run is writing to {folder}", remedy="wait for it")
        monitor = Monitor(plan, context.store, ticker, tracks)
        prepared.teller = monitor.teller
        for key, ended in _ends(prepared, leases):
            outcome.add(ended.counts)
            monitor.end(key)
        outcome.seconds = time.perf_counter() - start_time
        last = _finished(prepared, leases, command, finish, monitor, outcome)
    return Worked(context.store.folder, outcome, True, last)


def carry_out(prepared: Prepared, stage: Stage, leases: Leases) -> Ended | None:
    """Do one stage under its lease; None where another worker has it, or took it over.

    Where it has ended meanwhile nothing is done; counts are of what this worker did.
    """
    store = prepared.context.store
    with _claimed(leases, stage) as lease:
        if lease is None:
            return None
        if (ended := Ended.read(store, stage.key)) is not None:
            return Ended(ended.error, ended.output, {})
        prepared.context.guard = lease.check
        try:
            counts = asdict(prepared.run(stage.key))
        except LeaseLost as lost:
            prepared.context.say(f"{stage.label}: {lost}; this worker leaves it to that one")
            return None
        error = stage.failure(prepared.context)
        output = "" if error else output_digest(stage, store)
        ended = Ended(error, output, {name: n for name, n in counts.items() if isinstance(n, int)})
        if not ended.write(store, stage.key, lease.owner):
            prepared.context.say(f"{stage.label} was done twice, and something else came of it")
        return ended


@contextmanager
def _claimed(leases: Leases, stage: Stage) -> Iterator[Lease | None]:
    """The leases of what the stage shares with others and its own: all of them, or None."""
    with ExitStack() as stack:
        lease: Lease | None = None
        for key in (*sorted(name.replace(" ", "-") for name in stage.exclusive), stage.key):
            lease = leases.claim(key)
            if lease is None:
                break
            stack.enter_context(lease)
        yield lease


def _ends(prepared: Prepared, leases: Leases) -> Iterator[tuple[str, Ended]]:
    """Every stage that this worker does, as it ends, until all have ended."""
    waiting, pause, store = dict(prepared.stages), _SHORTEST, prepared.context.store
    while waiting:
        check_interrupt()
        for stage in list(waiting.values()):
            if Ended.read(store, stage.key) is not None:
                del waiting[stage.key]
                _count(prepared, stage)
        for stage in ready(waiting, ()):
            ended = carry_out(prepared, stage, leases)
            if ended is not None:
                pause = _SHORTEST
                del waiting[stage.key]
                yield stage.key, ended
                break
        else:
            time.sleep(pause if waiting else 0)
            pause = min(2 * pause, _LONGEST)


def _count(prepared: Prepared, stage: Stage) -> None:
    """Another worker did it: its pieces are no work that is left."""
    plan, tell = prepared.context.plan, prepared.teller(stage.key)
    if isinstance(stage, TrainStage):
        tell(Skipped(rounds_kind(stage.node), stage.node.rounds))
    elif isinstance(stage, EvaluateStage):
        for attack in plan.spec.attacks:
            tell(Skipped(Kind("attacks", attack.name)))
        for node in stage.cell.after:
            tell(ShadowsOver(node.digest))


def _finished(
    prepared: Prepared,
    leases: Leases,
    command: str,
    finish: Callable[[Path], object],
    monitor: Monitor,
    outcome: Outcome,
) -> bool:
    """Write the study's record, once; False where another worker did."""
    store, pause = prepared.context.store, _SHORTEST
    while Ended.read(store, _FINISH) is None:
        check_interrupt()
        lease = leases.claim(_FINISH)
        with lease or nullcontext():
            if lease is not None and Ended.read(store, _FINISH) is None:
                conclude_study(prepared, command, monitor, outcome)
                finish(store.folder)
                leases.clear(spare=(RUN, _FINISH))
                Ended("", "", {}).write(store, _FINISH, lease.owner)
                return True
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)
    for stage in prepared.stages.values():
        stage.conclude(prepared.context, monitor, outcome)
    return False


def conclude_study(prepared: Prepared, command: str, monitor: Monitor, outcome: Outcome) -> None:
    """Write ``study.json`` from what the store holds, and give the sinks every curve and every final figure."""
    context, plan = prepared.context, prepared.context.plan
    with Tracks(plan.spec.track, context.store.folder, plan.spec.name, monitor.say) as tracks:
        monitor = monitor.with_tracks(tracks)
        for key, stage in prepared.stages.items():
            _note_curve(prepared, key, monitor)
            stage.conclude(context, monitor, outcome)
    again, unequal = comparisons(context.store, prepared.stages)
    for key in unequal:
        monitor.say(f"{prepared.stages[key].label} was done twice, and something else came of it")
    seconds = _seconds(context.store, prepared.stages)
    accept = state_thresholds(plan.spec, context.store)
    seals, repeated = context.seals, (again, unequal)
    record = study_record(plan, command, context.status, seconds, seals.cells, repeated, accept, seals.trainings)
    record = with_verdicts(record, cells_in(context.store, record))
    write_json(context.store.folder / "study.json", sealed(plain(record)))


def _note_curve(prepared: Prepared, key: str, monitor: Monitor) -> None:
    stage = prepared.stages[key]
    if isinstance(stage, TrainStage):
        node = stage.node
        monitor.note(key, CurveBegan(training_curve(node), node.rounds))
        monitor.note(key, CurveEnded(True))


def _seconds(store: Store, stages: Mapping[str, Stage]) -> float:
    """From the first to the last stage that ended, by the file system's clock."""
    ends = [path.stat().st_mtime for key in stages if (path := store.folder / "ended" / f"{key}.json").is_file()]
    return max(ends, default=0.0) - min(ends, default=0.0)
