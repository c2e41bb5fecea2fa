"""The goal of an attack: which answers of the model count as success.

    Misclassification      any answer that the task does not call right
    Targeted               one class
    SourceToTarget         one class, for the records of another
    ConfidenceReduction    any class, as long as the right one has little probability

Source: Papernot et al. 2016, The Limitations of Deep Learning in Adversarial Settings, arXiv 1511.07528 (four goals)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.task import Task
from consilium.learn.rounding import RESOLUTION, rounding

from .losses import AttackLoss, margin

__all__ = [
    "GOALS",
    "Aimed",
    "ConfidenceReduction",
    "Goal",
    "GoalName",
    "Misclassification",
    "SourceToTarget",
    "Targeted",
    "goal_of",
]

GoalName = Literal["misclassification", "targeted", "source-to-target", "confidence-reduction"]
"""The goals as a study names them."""
GOALS: tuple[GoalName, ...] = get_args(GoalName)


class Goal(ABC):
    """Which records an attack is for, what it climbs for them, and whether it has arrived."""

    @abstractmethod
    def applies(self, y: Tensor) -> Tensor:
        """Which records of labels ``y (n,)`` the attack is for, bool ``(n,)``."""

    @abstractmethod
    def climbed(self, loss: AttackLoss, logits: Tensor, y: Tensor) -> Tensor:
        """``loss (n,)`` towards this goal, of logits ``(n, classes)``."""

    @abstractmethod
    def reached(self, logits: Tensor, y: Tensor) -> Tensor:
        """Which answers ``(n, classes)`` reach the goal, bool ``(n,)``."""

    @abstractmethod
    def surely(self, logits: Tensor, y: Tensor) -> Tensor:
        """Which of them are so by a lead that floating point cannot turn round, bool ``(n,)``; never for a NaN."""

    def meaning(self) -> str:
        """What success is, in words that follow "the goal was"; empty where it is any wrong answer."""
        return ""


class _Untargeted(Goal):
    """For every record, away from its right answer."""

    def applies(self, y: Tensor) -> Tensor:
        """All."""
        return torch.ones(len(y), dtype=torch.bool, device=y.device)

    def climbed(self, loss: AttackLoss, logits: Tensor, y: Tensor) -> Tensor:
        """Away from the right answer."""
        return loss.untargeted(logits, y)


@dataclass(frozen=True)
class Misclassification(_Untargeted):
    """Any answer that ``task`` does not call right."""

    task: Task

    def reached(self, logits: Tensor, y: Tensor) -> Tensor:
        """The answer is not right."""
        return ~self.task.right(logits, y)

    def surely(self, logits: Tensor, y: Tensor) -> Tensor:
        """It is wrong by more than rounding."""
        return self.task.surely_wrong(logits, y)


@dataclass(frozen=True)
class Aimed(Misclassification):
    """Any wrong answer, by way of a class of each record's own: ``y (n, 2)`` are the right class and that one."""

    def climbed(self, loss: AttackLoss, logits: Tensor, y: Tensor) -> Tensor:
        """Towards the record's own class."""
        return loss.targeted(logits, y[:, 0], y[:, 1])

    def reached(self, logits: Tensor, y: Tensor) -> Tensor:
        """The answer is not right, whatever it is."""
        return super().reached(logits, y[:, 0])

    def surely(self, logits: Tensor, y: Tensor) -> Tensor:
        """It is wrong by more than rounding."""
        return super().surely(logits, y[:, 0])


@dataclass(frozen=True)
class Targeted(Goal):
    """The class ``target``, for every record of another."""

    target: int

    def __post_init__(self) -> None:
        check(self.target >= 0, "target", self.target, "the number of a class")

    def applies(self, y: Tensor) -> Tensor:
        """Records that are not of the target's class."""
        return y != self.target

    def meaning(self) -> str:
        """The target, for the records of every other class."""
        return f"the answer {self.target}, for records of every other class"

    def climbed(self, loss: AttackLoss, logits: Tensor, y: Tensor) -> Tensor:
        """Towards the target."""
        return loss.targeted(logits, y, torch.full_like(y, self.target))

    def reached(self, logits: Tensor, y: Tensor) -> Tensor:
        """The largest logit is the target's."""
        return logits.argmax(1) == self.target

    def surely(self, logits: Tensor, y: Tensor) -> Tensor:
        """The target leads by more than rounding."""
        return -margin(logits.detach(), torch.full_like(y, self.target)) > rounding(logits)


@dataclass(frozen=True)
class SourceToTarget(Targeted):
    """The class ``target``, for records of the class ``source`` alone."""

    source: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.source >= 0 and self.source != self.target, "source", self.source, "a class other than the target")

    def applies(self, y: Tensor) -> Tensor:
        """Records of the source's class."""
        return y == self.source

    def meaning(self) -> str:
        """The target, for the records of the source."""
        return f"the answer {self.target}, for records of the class {self.source}"


@dataclass(frozen=True)
class ConfidenceReduction(_Untargeted):
    """A probability of the right class below ``confidence``, whatever is answered."""

    confidence: float

    def __post_init__(self) -> None:
        check(0 < self.confidence <= 1, "confidence", self.confidence, "a probability above 0, at most 1")

    def meaning(self) -> str:
        """The probability to fall below."""
        return f"a probability of the right class below {self.confidence:g}, whatever is answered"

    def reached(self, logits: Tensor, y: Tensor) -> Tensor:
        """The right class's probability is below the confidence."""
        return _probability(logits, y) < self.confidence

    def surely(self, logits: Tensor, y: Tensor) -> Tensor:
        """It is so by more than rounding."""
        return _probability(logits.detach(), y) < self.confidence * (1 - RESOLUTION)


def goal_of(
    name: GoalName, task: Task, *, target: int | None = None, source: int | None = None, confidence: float = 0.5
) -> Goal:
    """The goal of that ``name``, with the classes or the ``confidence`` that it takes.

    Raises Refused: a class that it needs is missing.
    """
    if name == "misclassification":
        return Misclassification(task)
    if name == "confidence-reduction":
        return ConfidenceReduction(confidence)
    if target is None or (name == "source-to-target" and source is None):
        raise Refused(f"the goal {name!r} lacks a class", remedy="give its target, and its source if it has one")
    return Targeted(target) if source is None else SourceToTarget(target, source)


def _probability(logits: Tensor, y: Tensor) -> Tensor:
    return logits.softmax(1).gather(1, y[:, None])[:, 0]
