"""Jobs of Slurm, one for each stage, by submitit: its arguments are three texts, and everything else is in the folder.

The environment of this process must lie on a disk that the nodes see, as the study's folder must.

Source: submitit, `AutoExecutor`
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from importlib.util import find_spec
from threading import Event, Thread
from typing import Any, ParamSpec, TypeVar

from consilium.core.errors import MissingExtra, Refused
from consilium.study.executors.perform import Prepared

from .foreign import Foreign

__all__ = ["slurm_executor"]

P = ParamSpec("P")
T = TypeVar("T")
_AT_ONCE = 64
"""Jobs in the queue at once where nothing else is asked for."""
_MOMENT = 0.5


def slurm_executor(where: str, workers: int, prepared: Prepared) -> Foreign:
    """Slurm, or with ``where`` = "local" processes of this machine that submitit starts in its place.

    Raises MissingExtra: the extra ``slurm`` is not installed.
    Raises Refused: there is no Slurm on this machine.
    """
    if find_spec("submitit") is None:
        raise MissingExtra("submitit is not installed", remedy='pip install "consilium[slurm]"', where="executor")
    import submitit

    spec = prepared.context.plan.spec
    try:
        inner = submitit.AutoExecutor(folder=prepared.context.store.folder / "slurm", cluster=where or "slurm")
    except (RuntimeError, ValueError) as error:
        raise Refused(f"there is no Slurm here: {error}", remedy="run it where sbatch is", where="executor") from error
    inner.update_parameters(name="consilium", cpus_per_task=spec.threads, timeout_min=24 * 60)
    return Foreign(prepared, _Submitted(inner), workers or _AT_ONCE)


class _Submitted(Executor):
    """A submitit executor as one of :mod:`concurrent.futures`: a thread looks which jobs have ended."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._jobs, self._ended = inner, dict[Future[Any], Any](), Event()
        self._thread = Thread(target=self._watch, name="jobs", daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """One job."""
        future: Future[T] = Future()
        self._jobs[future] = self._inner.submit(fn, *args, **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel what has not ended."""
        self._ended.set()
        self._thread.join()
        for job in self._jobs.values():
            job.cancel(check=False)

    def _watch(self) -> None:
        while not self._ended.wait(_MOMENT):
            for future, job in list(self._jobs.items()):
                if job.done():
                    del self._jobs[future]
                    _pass_on(job, future)


def _pass_on(job: Any, future: Future[Any]) -> None:
    try:
        future.set_result(job.result())
    except Exception as error:
        future.set_exception(error)
