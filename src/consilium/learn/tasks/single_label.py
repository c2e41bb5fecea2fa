"""One class a record, of several that exclude each other.

loss = -log p_y = log sum_j exp(z_j) - z_y          right where argmax z = y
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.core.task import Task
from consilium.data.checks.omissions import first
from consilium.data.checks.verify import check_labels
from consilium.learn.perturbation.losses import margin
from consilium.learn.rounding import rounding
from consilium.measure.confidence.brier import brier_score
from consilium.measure.confidence.calibration_error import expected_calibration_error
from consilium.measure.utility import is_collapsed, utility

__all__ = ["SingleLabel"]


@dataclass(frozen=True)
class SingleLabel(Task):
    """One class for each record.  y: int64 ``(n,)``, the number of the class; answers: logits ``(n, classes)``.

    Source: Cox 1958 (cross-entropy is the multinomial likelihood)
    """

    score: ClassVar[str] = "accuracy"
    exclusive: ClassVar[bool] = True

    def names(self, y: Tensor) -> tuple[str, ...]:
        """The numbers of the classes up to the last."""
        return tuple(str(number) for number in range(int(y.max()) + 1))

    def answer_shape(self, labels: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """One logit for each class."""
        return (labels,)

    def check_labels(self, y: Tensor, labels: Sequence[str], inputs: tuple[int, ...], where: str) -> None:
        """Refuse labels outside [0, classes).

        Raises Refused: several labels a record, or one that is no class.
        """
        if y.dim() != 1:
            raise Refused(
                f"each record has {tuple(y.shape[1:])} labels and the task is {self.kind()}",
                remedy='give one label a record, or name the task: task = "multi-label", "regression", "masks"',
                where=where,
            )
        check_labels(y, len(labels), where)

    def check_variety(self, y: Tensor, labels: Sequence[str], where: str) -> tuple[str, ...]:
        """A caution about classes of one record, which cannot be both in training and in the test set."""
        counts = torch.bincount(y, minlength=len(labels)).tolist()
        single = [repr(name) for name, count in zip(labels, counts, strict=True) if count == 1]
        if not single:
            return ()
        return (f"classes of one record alone, of {len(y)}: {', '.join(first(single))}. Are these classes?",)

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        """-log p_y.

        To the bit what ``cross_entropy`` is, whose kernel under vmap imports an algebra system (sympy).
        """
        return -F.log_softmax(answers, 1).gather(1, y[:, None]).squeeze(1)

    def loss(self, answers: Tensor, y: Tensor, reduction: Literal["mean", "sum"]) -> Tensor:
        """In one kernel."""
        return F.cross_entropy(answers, y, reduction=reduction)

    def predicted(self, answers: Tensor) -> Tensor:
        """The class with the largest logit."""
        return answers.argmax(1)

    def right(self, answers: Tensor, y: Tensor) -> Tensor:
        """Where the largest logit is the right class's."""
        return (answers.argmax(1) == y) & ~answers.isnan().any(1)

    def margin(self, answers: Tensor, y: Tensor) -> Tensor:
        """The lead of the best wrong class over the right one."""
        return margin(answers, y)

    def surely_wrong(self, answers: Tensor, y: Tensor) -> Tensor:
        """Where the best wrong class leads by more than rounding."""
        return margin(answers.detach(), y) > rounding(answers)

    def strata(self, y: Tensor) -> Tensor:
        """The classes."""
        return y

    def most_right(self, y: Tensor) -> int:
        """The size of the commonest class."""
        return int(torch.bincount(y.cpu()).max()) if len(y) else 0

    def drawn(self, count: int, labels: int, inputs: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Classes at random."""
        return torch.randint(labels, (count,), generator=generator)

    def mistaken(self, y: Tensor, labels: int, generator: torch.Generator) -> Tensor:
        """Another class at random.

        Raises Refused: there is one class only.
        """
        if labels < 2:
            raise Refused("there is no wrong label: there is one class only", remedy="use data of two classes or more")
        return (y + torch.randint(1, labels, (len(y),), generator=generator)) % labels

    def measures(
        self, answers: Tensor, y: Tensor, units: Tensor, labels: Sequence[str], stream: Stream
    ) -> tuple[Measure, ...]:
        """Accuracy and the figures of :mod:`consilium.measure.utility`; Brier score and calibration error."""
        return (
            *utility(answers, y, stream.child("utility"), units),
            brier_score(answers, y, units),
            expected_calibration_error(answers, y, units, stream.child("calibration")),
        )

    def is_collapsed(self, answers: Tensor) -> bool:
        """More than 95 % of the answers are one class."""
        return is_collapsed(answers)
