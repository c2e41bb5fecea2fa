"""What a model is asked of each record, and when its answer is right.

    answers (n, *answer)   what the model gives: logits, hazards, numbers     y (n, *target)   what is true

No other room assumes that y is one class a record: training takes the losses, an attack the margin and the verdict, a
partition the strata, the evidence the figures.  Every method treats each record alone, whatever else is in the batch:
so clipping bounds a record (LAWS 5), and an attack's verdict is that of the record.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .entry import Entry
from .errors import Refused
from .finding import Measure
from .random import Stream

__all__ = ["Task", "refuse_unless_exclusive"]


@dataclass(frozen=True)
class Task(Entry, ABC):
    """What is asked of each record.  ``labels`` are the names of the classes, findings or quantities, in order.

    ``score`` names the figure that a model is first read by; a larger one is better.  ``right`` is what the task calls
    a right answer: accuracy and robust accuracy count it.  ``exclusive``: y is one class of several, ``(n,)``.
    ``whole``: labels are whole numbers.  ``counted``: y ``(n, k)`` says of each label whether it is there.
    ``logits``: answers are logits, not numbers.
    """

    score: ClassVar[str]
    exclusive: ClassVar[bool] = False
    whole: ClassVar[bool] = True
    counted: ClassVar[bool] = False
    logits: ClassVar[bool] = True

    def names(self, y: Tensor) -> tuple[str, ...]:
        """What the labels are called where nobody names them: one name for each column of ``y (n, k)``."""
        return tuple(f"label {number}" for number in range(y.shape[1]))

    @abstractmethod
    def answer_shape(self, labels: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one answer, for that many ``labels`` and inputs of that shape.

        Raises Refused where the task has no meaning for such inputs.
        """

    @abstractmethod
    def check_labels(self, y: Tensor, labels: Sequence[str], inputs: tuple[int, ...], where: str) -> None:
        """Raises Refused, with the first record that is wrong, unless ``y`` is what the task needs."""

    def check_variety(self, y: Tensor, labels: Sequence[str], where: str) -> tuple[str, ...]:
        """Cautions about labels ``y (n, *target)`` that hardly differ, or fit the task's constants badly.

        Raises Refused: the labels are all alike, so nothing can be learned or judged.
        """
        return ()

    @abstractmethod
    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        """What training makes small, ``(n,)``: at least 0, differentiable, each of its own record."""

    def loss(self, answers: Tensor, y: Tensor, reduction: Literal["mean", "sum"]) -> Tensor:
        """The mean or the sum of the losses, ``()``."""
        losses = self.losses(answers, y)
        return losses.mean() if reduction == "mean" else losses.sum()

    @abstractmethod
    def predicted(self, answers: Tensor) -> Tensor:
        """The answers as labels: of the shape and type of ``y``."""

    @abstractmethod
    def right(self, answers: Tensor, y: Tensor) -> Tensor:
        """Which answers are right, bool ``(n,)``; never one with a NaN."""

    @abstractmethod
    def margin(self, answers: Tensor, y: Tensor) -> Tensor:
        """How far each answer is from right, ``(n,)``, differentiable: the larger, the nearer to wrong."""

    @abstractmethod
    def surely_wrong(self, answers: Tensor, y: Tensor) -> Tensor:
        """Which answers are wrong by a lead that floating point cannot turn round, bool ``(n,)``; never for a NaN."""

    @abstractmethod
    def strata(self, y: Tensor) -> Tensor:
        """Kinds of records, int64 ``(n,)`` from 0 on: splits keep their shares, and label skew is drawn over them."""

    @abstractmethod
    def most_right(self, y: Tensor) -> int:
        """How many of the records the best constant answer gets right: the chance level of accuracy."""

    @abstractmethod
    def drawn(self, count: int, labels: int, inputs: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """``count`` labels at random, for records that are made to be remembered."""

    @abstractmethod
    def mistaken(self, y: Tensor, labels: int, generator: torch.Generator) -> Tensor:
        """Labels of the shape of ``y``, each another than its own."""

    @abstractmethod
    def measures(
        self, answers: Tensor, y: Tensor, units: Tensor, labels: Sequence[str], stream: Stream
    ) -> tuple[Measure, ...]:
        """Every figure of ``answers``, ``accuracy`` first and ``score`` among them; ``units (n,)`` are drawn as one.

        A NaN leaves them undefined with the reason.
        """

    def stored(self, answers: Tensor, y: Tensor) -> dict[str, Tensor]:
        """What is stored of each record ``(n, ...)``, so that the ``score`` of two models can be compared on them.

        Nothing where the verdict is enough, or the task has no such figure.
        """
        return {}

    @abstractmethod
    def is_collapsed(self, answers: Tensor) -> bool:
        """Whether nearly all answers are the same (LAWS 19), or any is NaN."""


def refuse_unless_exclusive(task: Task, entry: Entry, reason: str) -> None:
    """Refuse a ``task`` that is not one class a record; ``reason`` says why ``entry`` needs that.

    Raises Refused: the task has no classes.
    """
    if not task.exclusive:
        raise Refused(
            f"{entry.kind()} has no meaning for the task {task.kind()}: {reason}",
            remedy="leave it out, or use data whose task is single-label",
        )
