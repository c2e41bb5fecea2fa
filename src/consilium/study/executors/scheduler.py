"""The loop that a study is: what is ready is handed out, what has ended is looked up in the store.

A stage is ready when those before it have ended, well or not: a training that failed breaks its own cells, whose
evidence says so, and nothing else.  A stage whose worker was lost is handed out once more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

from consilium.core.errors import ConsiliumError
from consilium.study.progress.outcome import Outcome
from consilium.study.progress.stage_monitor import Monitor

from ..stages.stage import Stage
from .perform import Prepared
from .port import StageExecutor
from .serial import Serial

__all__ = ["ready", "run_stages"]

_TRIES = 2


def run_stages(prepared: Prepared, executor: StageExecutor, monitor: Monitor, outcome: Outcome) -> None:
    """Do every stage; ``outcome`` counts what was done."""
    words = prepared.folder, prepared.digest
    waiting, running = dict(prepared.stages), dict[Future[Mapping[str, Any]], Stage]()
    tries, here = dict.fromkeys(waiting, 0), Serial()
    while waiting or running:
        for stage in ready(waiting, running.values()):
            if len(running) >= executor.workers:
                break
            tries[stage.key] += 1
            checked = executor.workers > 1 and stage.done(prepared.context)  # not worth a process
            del waiting[stage.key]
            if checked:
                running[here.submit(_performed, prepared, stage.key)] = stage
            else:
                running[executor.submit(executor.perform, *words, stage.key)] = stage
        ended = executor.ended(running)
        monitor.refresh()
        for future in ended:
            stage = running.pop(future)
            error = _lost(future, executor)
            if error and tries[stage.key] < _TRIES:
                monitor.say(f"{stage.label} is done again: {error}")
                waiting = {stage.key: stage, **waiting}
                continue
            if error:
                stage.fail(prepared.context, error)
            else:
                outcome.add(future.result())
            stage.conclude(prepared.context, monitor, outcome)
            monitor.end(stage.key)


def _performed(prepared: Prepared, key: str) -> dict[str, object]:
    return asdict(prepared.run(key))


def ready(waiting: Mapping[str, Stage], running: Collection[Stage]) -> Iterator[Stage]:
    """Those of ``waiting`` that may run beside ``running`` and those that were yielded before, in their order."""
    unfinished = {*waiting, *(stage.key for stage in running)}
    resources = {name for stage in running for name in stage.exclusive}
    for stage in list(waiting.values()):
        if unfinished.isdisjoint(stage.after) and resources.isdisjoint(stage.exclusive):
            resources |= stage.exclusive
            yield stage


def _lost(future: Future[Any], executor: StageExecutor) -> str:
    """Why the worker of a stage was lost; empty where it was not.  Any other error ends the run."""
    error = future.exception()
    if error is None:
        return ""
    if not isinstance(error, executor.lost):
        raise error
    return str(error) if isinstance(error, ConsiliumError) else f"{type(error).__name__}: {error}"
