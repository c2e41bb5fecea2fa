"""From the word for an executor to the executor.

(none)          processes where that is faster and changes no bit, else serial
serial          one stage after the other, in this process
processes       several at once, each in a process of this machine
dask:ADDRESS    by the workers of a Dask cluster         (extra: cluster)
slurm           one job of Slurm each, by submitit       (extra: slurm)
"""

from __future__ import annotations

from consilium.core.errors import Refused
from consilium.federate.engines.pool import cores, why_no_fork
from consilium.study.executors.distributed.children import Children
from consilium.study.executors.distributed.cluster import cluster_executor
from consilium.study.executors.distributed.folder import written_tables
from consilium.study.executors.distributed.foreign import Foreign
from consilium.study.executors.distributed.slurm import slurm_executor
from consilium.study.executors.forked import Forked
from consilium.study.executors.perform import Prepared
from consilium.study.executors.port import StageExecutor
from consilium.study.executors.serial import Serial
from consilium.study.spec.spec import Spec
from consilium.study.stages.graph import width

__all__ = ["EXECUTORS", "default_workers", "executor_for", "why_serial"]

EXECUTORS = ("serial", "processes", "dask:ADDRESS", "slurm")
"""The words that are known."""


def executor_for(word: str, workers: int, prepared: Prepared) -> StageExecutor:
    """The executor of the stages of ``prepared``, ``workers`` at once (0: as many as the cores and the study allow).

    Raises Refused: an unknown word, or processes where stages are done one by one (:func:`why_serial`).
    """
    spec, (kind, _, rest) = prepared.context.plan.spec, word.partition(":")
    match kind:
        case "serial":
            return Serial()
        case "":
            return Serial() if _one_by_one(spec) else _processes(prepared, workers)
        case "processes":
            if (refusal := why_serial(spec)) is not None and not spec.spreads_training:
                raise refusal
            return _processes(prepared, workers)
        case "dask":
            return cluster_executor(rest, workers, prepared)
        case "slurm":
            return slurm_executor(rest, workers, prepared)
    raise Refused(f"unknown executor {word!r}", remedy=f"known are {', '.join(EXECUTORS)}", where="executor")


def default_workers(spec: Spec, stages: int) -> int:
    """How many of so many ``stages`` that can run at once do, where nothing else is asked for."""
    return 1 if _one_by_one(spec) else max(1, min(cores() // spec.threads, stages))


def _one_by_one(spec: Spec) -> bool:
    return why_serial(spec) is not None or _is_private(spec)


def why_serial(spec: Spec) -> Refused | None:
    """Why the stages of a study are done one by one here unless something else is asked for; None if they are not."""
    if spec.device != "cpu":
        return Refused(f"the study computes on {spec.device}, which its stages would share", remedy='use "serial"')
    if (refusal := why_no_fork()) is not None:
        return Refused(refusal.reason, remedy='use "serial"')
    if spec.spreads_training:
        return Refused("the study's engine spreads one training over all cores", remedy='use "serial"')
    return None


def _is_private(spec: Spec) -> bool:
    """Whether fresh processes, which several threads need, could not read the study."""
    try:
        return spec.threads > 1 and not written_tables(spec)
    except Refused:
        return True


def _processes(prepared: Prepared, workers: int) -> StageExecutor:
    context = prepared.context
    unfinished = [stage for stage in prepared.stages.values() if not stage.done(context)]
    most = width(unfinished)
    count = min(workers or cores() // context.plan.spec.threads, most)
    if count <= 1:
        return Serial()
    if context.plan.spec.threads > 1:
        return Foreign(prepared, Children(count), count, moment=0.2)
    return Forked(prepared, count, max(1, cores() // count))
