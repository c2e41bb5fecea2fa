"""The two kinds of adversary: one attacks a trained model, one acts inside the training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, final

import torch

from .algorithm import Algorithm
from .backdoor import Backdoor, refuse_no_class
from .entry import Entry
from .finding import Finding
from .gradient import Objective, Schedule
from .inputs import Inputs, refuse_tokens
from .random import Stream
from .records import Records
from .task import Task
from .threat import Granted, RecordsView, RoundView, ThreatModel, View, require
from .untouched import untouched
from .update import Payload, Update

__all__ = ["Attack", "Corruption"]


@dataclass(frozen=True)
class Attack(Entry, ABC, Generic[Granted]):
    """An adversary of a trained model.  A subclass writes ``run``; calling it is final.

    ``Attack[QueryView]`` is granted a ``QueryView``: a type checker holds ``needs`` and the view of ``run`` to it.
    """

    threat: ClassVar[ThreatModel]
    nist: ClassVar[str | None] = None
    """Its NISTAML id, where the threat model does not say it."""

    @property
    @abstractmethod
    def needs(self) -> type[Granted]:
        """The smallest view it can work with; a subclass sets it as a class attribute."""

    @property
    def sees_model(self) -> bool:
        """False for one that is granted records alone: its figures say nothing of the model."""
        return not issubclass(self.needs, RecordsView)

    def retrains(self) -> int:
        """How many trainings it needs of a ``RetrainView``, for the plan; all attacks on a model share them."""
        return 0

    def fits_public(self) -> bool:
        """True if it fits something on public records, which must then exist."""
        return False

    def describe(self, classes: Sequence[str]) -> str:
        """What it does on data of these ``classes``, in words that follow its kind; empty where they add nothing."""
        return ""

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse inputs of ``shape`` or a number of ``classes`` that it cannot attack."""

    def check_task(self, task: Task) -> None:
        """Refuse, with the reason, a ``task`` for which the attack has no meaning; most take any."""

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse, with the reason, ``inputs`` for which the attack has no meaning, such as tokens; most take any."""

    @abstractmethod
    def run(self, view: Granted, memory: Payload, generator: torch.Generator) -> Finding:
        """Attack what ``view`` shows; ``memory`` are its statistics of the rounds, empty unless it observed them."""

    @final
    def __call__(self, view: View, memory: Payload, generator: torch.Generator) -> Finding:
        """Check the view, then run.

        An attack from elsewhere that writes into what it is shown fails, and what it wrote is undone.
        """
        granted = require(view, self.needs, self.kind())
        with untouched(granted, self):
            return self.run(granted, memory, generator)


@dataclass(frozen=True)
class Corruption(Entry, ABC):
    """An adversary inside the training: it controls some sites, and may deviate there from the protocol.

    A corrupted site obeys no site half of any defence (LAWS 4); only server halves bind it.  Every method has a default
    that does nothing, and an entry overrides those it uses.  ``needs`` is the view of a round that it requires to
    forge: a ``RoundView`` (the broadcast), a ``ColludingView``, an ``AggregateView`` or an ``OmniscientView``
    (``core/collusion.py``).  One that ``follows_inputs`` needs a model whose gradient in its inputs is not zero.
    """

    threat: ClassVar[ThreatModel]
    nist: ClassVar[str | None] = None
    """Its NISTAML id, which a threat model does not say: what is poisoned, data or model, and to what end."""
    needs: ClassVar[type[RoundView]] = RoundView
    follows_inputs: ClassVar[bool] = False
    sites: int

    def describe(self, classes: Sequence[str]) -> str:
        """What it does by the names of the ``classes``, in words that follow its kind; empty where they add nothing."""
        return ""

    def backdoor(self) -> Backdoor | None:
        """The backdoor that it plants, which every model of the study is then judged for; None without one."""
        return None

    def for_site(self, number: int, among: int) -> Corruption:
        """What corrupted site ``number`` of ``among`` does, from 0, where they share the work; most do all the same."""
        return self

    def records(self, records: Records, classes: int, stream: Stream) -> Records:
        """What a corrupted site trains on, drawn once."""
        return records

    def check_task(self, task: Task) -> None:
        """Refuse, with the reason, a ``task`` for which the corruption has no meaning; most take any."""

    def check_sites(self, corrupted: int, sites: int) -> None:
        """Refuse numbers of ``corrupted`` and of all ``sites`` for which it has no meaning; most take any."""

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse inputs of ``shape`` or a number of ``classes`` that it cannot be used on; here what its backdoor is.

        Raises Refused: the trigger does not fit on the inputs, or the target is no class.
        """
        backdoor = self.backdoor()
        if backdoor is not None:
            backdoor.trigger.check(shape)
            refuse_no_class("target", backdoor.target, classes)

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse tokens where it ``follows_inputs``: no gradient leads from one word to another."""
        if self.follows_inputs:
            refuse_tokens(inputs, self, "it follows gradients in the inputs, and no step leads from an id to another")

    def objective(self, objective: Objective) -> Objective:
        """What a corrupted site trains for; ``Objective.for_round`` may read each round's broadcast."""
        return objective

    def schedule(self, schedule: Schedule) -> Schedule:
        """The local epochs and batches of a corrupted site, instead of the study's ``schedule``."""
        return schedule

    def algorithm(self, algorithm: Algorithm) -> Algorithm:
        """The site half of ``algorithm`` as a corrupted site runs it, with a learning rate of its own perhaps."""
        return algorithm

    def forge(self, memory: Payload, updates: Sequence[Update], view: RoundView) -> tuple[Sequence[Update], Payload]:
        """What all colluding sites send instead of their own ``updates``; called once a round for all of them."""
        return updates, memory
