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

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.task import Task
from consilium.learn.rounding import RESOLUTION, rounding

from .losses import AttackLoss, margin

__all__ = ["ConfidenceReduction", "Goal", "Misclassification", "SourceToTarget", "Targeted"]


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
class Targeted(Goal):
    """The class ``target``, for every record of another."""

    target: int

    def __post_init__(self) -> None:
        check(self.target >= 0, "target", self.target, "the number of a class")

    def applies(self, y: Tensor) -> Tensor:
        """Records that are not of the target's class."""
        return y != self.target

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


@dataclass(frozen=True)
class ConfidenceReduction(_Untargeted):
    """A probability of the right class below ``confidence``, whatever is answered."""

    confidence: float

    def __post_init__(self) -> None:
        check(0 < self.confidence <= 1, "confidence", self.confidence, "a probability above 0, at most 1")

    def reached(self, logits: Tensor, y: Tensor) -> Tensor:
        """The right class's probability is below the confidence."""
        return _probability(logits, y) < self.confidence

    def surely(self, logits: Tensor, y: Tensor) -> Tensor:
        """It is so by more than rounding."""
        return _probability(logits.detach(), y) < self.confidence * (1 - RESOLUTION)


def _probability(logits: Tensor, y: Tensor) -> Tensor:
    return logits.softmax(1).gather(1, y[:, None])[:, 0]
