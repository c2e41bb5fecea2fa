"""How private records become a gradient: the objective is the loss, the rule alone reads the records.

An algorithm never sees a batch.  It calls an oracle; the oracle draws the batch, evaluates the objective for
per-example losses, and turns them into one gradient by its rule (mean; clipped per unit and noised).  Every call is
charged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .charge import Adjacency, Charge, Composed, Unit
from .errors import Failed
from .network import Network
from .random import Stream
from .records import Records
from .task import Task
from .update import Payload

__all__ = ["Batch", "Gradient", "GradientOracle", "GradientRule", "Objective", "Predict", "Schedule"]

Predict = Callable[[Tensor], Tensor]
"""x ``(n, *shape)`` -> logits ``(n, classes)`` at the current weights."""

Batch = Mapping[str, Tensor]
"""Named tensors that all have the examples first; always ``x`` and ``y``."""


class Objective(ABC):
    """The objective of training for one example: its loss.

    ``prepare`` may look at the current weights but is not differentiated; anything it makes for a record may
    depend on that record, the weights and its own randomness alone (LAWS 5): so clipping still bounds the record.
    """

    def prepare(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> Batch:
        """The batch that is learned from: the same examples, perhaps perturbed or relabelled; here as they are."""
        return {"x": x, "y": y}

    def for_round(self, params: Tensor, predict: Predict) -> Objective:
        """This objective in a round that broadcasts ``params (d,)``, whose model ``predict`` is; here the same in all.

        Both are public, so a function of them costs no privacy.
        """
        return self

    def in_round(self, number: int) -> Objective:
        """This objective in round ``number``, from 1 on, which is public; here the same in all.

        An objective that has another within it asks that one too.
        """
        return self

    @property
    def task(self) -> Task:
        """Whose answers are wanted: what crafts inputs or relabels follows it.

        Raises Failed: the objective names no task.
        """
        raise Failed(f"the objective {type(self).__name__} names no task", remedy="give it a property task")

    @property
    def reads_broadcast(self) -> bool:
        """True if it is another objective in another round."""
        return type(self).for_round is not Objective.for_round

    @property
    def plain(self) -> bool:
        """True if nothing is prepared, so that the call may be left out, and many sites may go without it together."""
        return type(self).prepare is Objective.prepare

    @abstractmethod
    def losses(self, predict: Predict, batch: Batch) -> Tensor:
        """Per-example losses ``(n,)``, differentiable in the weights behind ``predict``."""


@dataclass(frozen=True)
class Schedule:
    """The local work of a round at a site: ``epochs`` E over its records in batches of ``batch`` B (0: all at once)."""

    rounds: int
    epochs: int
    batch: int

    def steps(self, n: int) -> int:
        """Local steps in one round: ceil(E n / B), fixed before training (LAWS 6)."""
        return self.epochs if self.batch == 0 else -(-self.epochs * n // self.batch)

    def most_steps(self, n: int) -> int:
        """The most steps that any rule makes of it: every epoch may end with a batch that is not full."""
        return self.epochs if self.batch == 0 else self.epochs * -(-n // self.batch)


@dataclass(frozen=True, eq=False)
class Gradient:
    """One gradient ``(d,)`` and the buffers ``(b,)`` after the forward pass that made it."""

    value: Tensor
    buffers: Tensor


class GradientOracle(ABC):
    """One site's records behind a rule, for one round."""

    steps: int

    def resume(self, memory: Payload) -> None:  # noqa: B027 - most oracles remember nothing
        """Go on with what :meth:`memory` was after this site's last round; called before the first step."""

    def memory(self) -> Payload:
        """The state that this site's next round needs; it stays at the site and in the training's checkpoint."""
        return {}

    @abstractmethod
    def __call__(self, params: Tensor, buffers: Tensor) -> Gradient:
        """The gradient at ``params (d,)`` of the next batch."""

    @abstractmethod
    def charge(self) -> Charge | None:
        """The charge of all calls so far; None if no guarantee is claimed."""


class GradientRule(ABC):
    """The only access to private records during training.

    ``delta`` is the one at which its claims are made, None if it makes none; ``unit`` whom they protect, under which
    ``adjacency``.  Wherever ``n`` appears below it counts such units.
    """

    delta: float | None = None
    unit: Unit = "example"
    adjacency: Adjacency = "add-or-remove-one"

    @property
    def sampler(self) -> str:
        """How batches are selected, in words for a claim; "" where the charges say it."""
        return ""

    def count(self, records: Records) -> int:
        """How many units ``records`` are of."""
        return len(records) if self.unit == "example" else records.unit_count()

    def most_rounds(self, n: int, schedule: Schedule) -> int:
        """How many rounds of full local work a budget allows a site of ``n`` units; all of them without one."""
        return schedule.rounds

    @abstractmethod
    def schedule(self, schedule: Schedule) -> Schedule:
        """The schedule that this rule follows (a private rule may need larger batches)."""

    def refuse(self, network: Network, shape: tuple[int, ...]) -> None:  # noqa: B027 - most rules take any network
        """Refuse a network for which this rule's guarantee does not hold, for inputs of ``shape``.  Default: accept."""

    @abstractmethod
    def step_charge(self, n: int, schedule: Schedule) -> Charge | None:
        """What ONE call does to one of ``n`` units; None if no guarantee is claimed."""

    def charge(self, n: int, schedule: Schedule, rounds: int) -> Charge | None:
        """What ``rounds`` full rounds do to one of ``n`` units; None if no guarantee is claimed."""
        step = self.step_charge(n, schedule)
        return None if step is None else Composed(step, rounds * self.schedule(schedule).steps(n))

    @abstractmethod
    def oracle(
        self, records: Records, network: Network, objective: Objective, schedule: Schedule, stream: Stream
    ) -> GradientOracle:
        """Put ``records`` behind this rule for one round; ``stream`` is that of the site and round."""
