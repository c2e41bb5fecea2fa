"""One stage, here: three texts say what to do, and the store holds what came of it.

The process that made the plan has it, and so has every process that was forked from it; any other plans again from the
study's folder (:mod:`.distributed.elsewhere`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

from consilium.study.progress.events import Tell
from consilium.study.progress.outcome import Outcome

from ..stages.context import StageContext
from ..stages.graph import stages_of, study_digest
from ..stages.stage import Stage

__all__ = ["Prepared", "adopted", "perform"]


class Prepared:
    """A study as it is done in this process: its digest, its stages, and the context they run in.

    ``teller`` says what a stage tells its events to, by its key.
    """

    def __init__(self, context: StageContext) -> None:
        self.context, self.digest = context, study_digest(context.plan)
        self.folder = str(context.store.folder.resolve())
        self.stages: Mapping[str, Stage] = stages_of(context.plan)
        self.teller: Callable[[str], Tell] = _nobody

    def gather(self, key: str) -> None:
        """Have the records of the stage ``key`` in memory: every process that is forked then shares them."""
        stage = self.stages[key]
        self.context.data(stage.seed)
        self.context.plan.materials.network(stage.seed, stage.arm)

    def run(self, key: str) -> Outcome:
        """Do the stage ``key``; returns what was done."""
        self.context.outcome, self.context.tell = Outcome(), self.teller(key)
        self.stages[key].run(self.context)
        return self.context.outcome


_PREPARED: dict[tuple[str, str], Prepared] = {}
"""By folder and study digest: of this process, and of those that are forked from it."""


@contextmanager
def adopted(prepared: Prepared) -> Iterator[None]:
    """Inside the block this process, and those forked from it, do the stages of ``prepared`` as they are."""
    _PREPARED[prepared.folder, prepared.digest] = prepared
    try:
        yield
    finally:
        _PREPARED.pop((prepared.folder, prepared.digest), None)


def perform(folder: str, study: str, stage: str) -> dict[str, object]:
    """Do one stage of the study in ``folder``, which was :func:`adopted`; returns what was done, as counts in JSON."""
    return asdict(_PREPARED[folder, study].run(stage))


def _nobody(_: str) -> Tell:
    return lambda _: None
