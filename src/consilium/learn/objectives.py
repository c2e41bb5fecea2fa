"""The default objective of training: the loss of the task (for classes, cross-entropy with the label)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from consilium.core.gradient import Batch, Objective, Predict
from consilium.core.task import Task

__all__ = ["TaskLoss"]


@dataclass(frozen=True)
class TaskLoss(Objective):
    """The loss of a task, per example: cross-entropy where a record has one class."""

    of: Task

    @property
    def task(self) -> Task:
        """Whose loss it is."""
        return self.of

    def losses(self, predict: Predict, batch: Batch) -> Tensor:
        """``(n,)``."""
        return self.of.losses(predict(batch["x"]), batch["y"])
