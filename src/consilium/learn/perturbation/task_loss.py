"""What an attack climbs, whatever the task is.

    cross-entropy    the task's own loss (cross-entropy for classes)
    margin           how far the answer is from right

A target class exists only where a record has one class.

Source: Madry et al. 2018, arXiv 1706.06083 (the training loss); Carlini and Wagner 2017, arXiv 1608.04644 (margin)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.task import Task

from .losses import LOSSES, AttackLoss, LossName

__all__ = ["attack_loss"]


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
