"""What a stage works with: the plan, the store, and the one it tells its events to.

A process has one context for a study; models that were released and the sites asked about are remembered in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

from consilium.core.errors import ConsiliumError, Failed
from consilium.core.network import Network
from consilium.core.records import Consortium
from consilium.federate.checkpoint import load_checkpoint
from consilium.federate.client.client_states import SiteStates
from consilium.federate.engines.engine import Engine
from consilium.federate.round.federated_evaluation import Assessing
from consilium.federate.round.round import RoundExchange, RoundState
from consilium.study.evaluate.observer_replay import ObserverReplay
from consilium.study.evaluate.release import Released
from consilium.study.evaluate.seals import Seals
from consilium.study.evaluate.training_files import FileSeals, check_begun
from consilium.study.plan.nodes import CellNode, TrainingNode
from consilium.study.plan.plan import Plan
from consilium.study.progress.events import Event, Message
from consilium.study.progress.outcome import Outcome
from consilium.study.store.error_summary import error_summary
from consilium.study.store.store import Store, is_trained, read_stored

from .queried_sites import Asked

__all__ = ["Carrier", "StageContext", "Waits"]

Waits = Callable[[str, Sequence[str], float], None]
"""Told while a question waits: its name, which sites have not answered, and for how many seconds."""

Carrier = Callable[[TrainingNode, RoundExchange, Assessing, Waits], tuple[Engine, RoundExchange]]
"""Makes what carries the rounds of one training, where it is not the engine that the study names (a deployment), and
the exchange with what the sites declared in it.
"""


def _unguarded() -> None:
    """Nobody else can have the stage."""


def _unheard(_: Event) -> None:
    """Nobody looks."""


@dataclass(eq=False)
class StageContext:
    """``tell`` takes the events of the stage that runs; ``cores`` are those that it may use.

    ``guard`` raises where the stage is another worker's by now; it is asked before anything is written that the other
    could be writing.  ``outcome`` counts what was done, ``status`` holds the cells that are settled, ``failures`` why a
    training failed (empty: it did not); ``known`` are the cells' seals as the last whole run left them.
    """

    plan: Plan
    store: Store
    tell: Callable[[Event], None] = _unheard
    carrier: Carrier | None = None
    cores: int = 0
    guard: Callable[[], None] = _unguarded
    outcome: Outcome = field(default_factory=Outcome)
    status: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.released = lru_cache(maxsize=max(4, 2 * len(self.plan.arms)))(self._release)

    @cached_property
    def asked(self) -> Asked:
        """Whose records the attacks ask about."""
        return Asked(self.plan, self.store)

    @cached_property
    def seals(self) -> Seals:
        """The seals of the cells' evidence, as the last whole run left them and as they are written."""
        return Seals(self.store, self.say, self.known)

    @cached_property
    def cells(self) -> Mapping[str, CellNode]:
        """The plan's cells by digest."""
        return {cell.digest: cell for cell in self.plan.cells}

    def say(self, line: str) -> None:
        """One line that stays."""
        self.tell(Message(line))

    def data(self, seed: int) -> Consortium:
        """The records of a seed, divided."""
        return self.plan.materials.consortium(seed)

    def network(self, node: CellNode | TrainingNode) -> Network:
        """The model of ``node`` before its training, or the one that the study is of."""
        return self.plan.materials.network(node.seed, node.arm)

    def observer_replay(self, node: TrainingNode) -> ObserverReplay:
        """The attacks that watch a training."""
        folder = self.store.training(node.digest)
        return ObserverReplay(self.plan.materials, node, folder, self.cores)

    def checkpoint(self, training: str, device: str = "cpu") -> tuple[RoundState, SiteStates]:
        """The last state of a finished training."""
        return load_checkpoint(self.store.training(training) / "checkpoint.safetensors", device, training)

    def require_training(self, cell: CellNode) -> None:
        """Check that the training of ``cell`` ended well.

        Raises Failed: it failed, or did not end.
        """
        for node in cell.after:
            if error := self.training_failure(node.digest):
                raise Failed(f"its training failed: {error}")

    def check_training(self, training: str, finished: bool) -> list[FileSeals]:
        """The digests that a training which is run again replaces; Failed where files of it are not those it left."""
        return self.seals.check_training(training, self._cells_of(training), finished)

    def _cells_of(self, training: str) -> list[str]:
        return [cell.digest for cell in self.plan.cells if cell.training == training]

    def training_failure(self, training: str) -> str:
        """Why a training failed, in this process or in another; empty where it is done."""
        if training not in self.failures:
            self.failures[training] = self._stored_failure(training)
        return self.failures[training]

    def _stored_failure(self, training: str) -> str:
        try:
            if is_trained(self.store, training):
                self.check_training(training, finished=True)
                return ""
            folder = self.store.training(training)
            check_begun(folder, training, self.seals.known_files(training, self._cells_of(training)))
            record = read_stored(folder / "training.json") or {}
        except ConsiliumError as error:
            return error_summary(error)
        return str(record.get("error") or "it did not end")

    def _release(self, digest: str) -> Released:
        from .releasing import release_model

        return release_model(self, self.cells[digest])

    def elsewhere(self, **changed: Any) -> StageContext:
        """The same in a process of its own, with counts of its own."""
        return replace(self, outcome=Outcome(), status={}, failures={}, **changed)
