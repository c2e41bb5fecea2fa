"""What an attack climbs, and when it has arrived, whatever the task is.

    loss      the task's own (cross-entropy for classes)          margin    how far the answer is from right
    goal      an answer that the task does not call right

A target class exists only where a record has one class.

Source: Madry et al. 2018, arXiv 1706.06083 (the training loss); Carlini and Wagner 2017, arXiv 1608.04644 (margin)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.task import Task

from .goals import Goal
from .losses import LOSSES, AttackLoss, LossName

__all__ = ["WrongAnswer", "attack_loss"]


@dataclass(frozen=True)
class WrongAnswer(Goal):
    """Any answer that ``task`` does not call right."""

    task: Task

    def applies(self, y: Tensor) -> Tensor:
        """All records."""
        return torch.ones(len(y), dtype=torch.bool, device=y.device)

    def climbed(self, loss: AttackLoss, logits: Tensor, y: Tensor) -> Tensor:
        """Away from the right answer."""
        return loss.untargeted(logits, y)

    def reached(self, logits: Tensor, y: Tensor) -> Tensor:
        """Where the answer is not right."""
        return ~self.task.right(logits, y)

    def surely(self, logits: Tensor, y: Tensor) -> Tensor:
        """Where it is wrong by more than rounding."""
        return self.task.surely_wrong(logits, y)


@dataclass(frozen=True)
class _OfTask(AttackLoss):
    task: Task
    away: Callable[[Tensor, Tensor], Tensor]

    def untargeted(self, logits: Tensor, y: Tensor) -> Tensor:
        """Away from the right answer."""
        return self.away(logits, y)

    def targeted(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """Raises Refused: such a task has no classes to aim at."""
        raise Refused(f"the task {self.task.kind()} has no target class", remedy="attack without a target")


def attack_loss(name: LossName, task: Task) -> AttackLoss:
    """The loss of that ``name`` for the ``task``."""
    if task.exclusive:
        return LOSSES[name]
    return _OfTask(task, task.losses if name == "cross-entropy" else task.margin)
