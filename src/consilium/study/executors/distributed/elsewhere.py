"""One stage in a process that made no plan: it is made again from the folder, once for all stages of the process."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

from consilium.core.errors import Refused
from consilium.study.executors.perform import Prepared
from consilium.study.store.environment import settled

from .folder import prepared_in
from .lease import Leases
from .worker import carry_out

__all__ = ["perform_elsewhere"]

_PAUSE = 1.0


def perform_elsewhere(folder: str, study: str, stage: str) -> dict[str, object]:
    """Do one stage under its lease, or wait for the worker that does it; returns counts of what was done, in JSON.

    An engine that takes a worker for dead may start its stage on another while it still runs.

    Raises Refused: the study in the folder is another one, or has no such stage (the versions, the data or a module
    differ here).
    """
    prepared = _planned(folder, study)
    if stage not in prepared.stages:
        raise Refused(f"the study {study} in {folder} has no stage {stage}", remedy="prepare the folder again")
    leases, spec = Leases(prepared.context.store.folder), prepared.context.plan.spec
    with settled(spec.device, spec.threads):
        while (ended := carry_out(prepared, prepared.stages[stage], leases)) is None:
            time.sleep(_PAUSE)
    return {**ended.counts, "output": ended.output}


@lru_cache(maxsize=2)
def _planned(folder: str, study: str) -> Prepared:
    prepared, _ = prepared_in(Path(folder))
    if prepared.digest != study:
        reason = f"the folder {folder} was prepared for the study {prepared.digest}, and {study} was asked for"
        raise Refused(reason, remedy="prepare the folder again")
    prepared.context.cores = prepared.context.plan.spec.threads
    return prepared
