"""Round answer: release rounded confidences, or those of the k likeliest classes only.

Confidences below the top k are answered as 0, then all are rounded to ``digits`` decimals.  They are NOT renormalised:
an answer is the model's own or nothing, and the sum may differ from 1.  The label is answered with them,
so it remains the model's own where rounding makes a tie.

Source: Shokri et al. 2017, Membership Inference Attacks Against Machine Learning Models, arXiv 1610.05820, section VIII
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from consilium.core.defence import AnswerDefence
from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.threat import Aim

__all__ = ["RoundAnswer"]


@dataclass(frozen=True)
class RoundAnswer(AnswerDefence):
    """Rounds the answered confidences to some decimals, or keeps those of the top classes only; not renormalised.

    ``digits`` None (or 15, in a study file) leaves the confidences of the ``top_k`` classes as they are.
    """

    mitigates: ClassVar[tuple[Aim, ...]] = ("membership",)

    digits: int | None = 2
    """Decimals that a confidence is rounded to."""
    top_k: int | None = None
    """Classes whose confidence is answered; the others are answered as 0. Left out: all are answered."""

    def __post_init__(self) -> None:
        if self.digits is None and self.top_k is None:
            raise Refused("round-answer without digits and without top-k does nothing", remedy="give one of them")
        check(self.digits is None or 0 <= self.digits <= 15, "digits", self.digits, "0 to 15 decimals")
        check(self.top_k is None or self.top_k >= 1, "top-k", self.top_k, "at least 1 class")

    def check_task(self, task: Task) -> None:
        """Refuse answers that are no probabilities of classes."""
        refuse_unless_exclusive(task, self, "it rounds the probabilities of classes")

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse ``top_k`` that keeps every class.

        Raises Refused: ``top_k`` is at least the number of classes.
        """
        if self.top_k is not None and self.top_k >= classes:
            raise Refused(
                f"round-answer with top-k = {self.top_k} keeps each of the {classes} classes",
                remedy=f"use a top-k of at most {classes - 1}, or leave it out",
            )

    def answer(self, probabilities: Tensor) -> Tensor:
        """``(n, classes)`` in [0, 1]; rows need not sum to 1."""
        if self.top_k is not None and self.top_k < probabilities.shape[1]:
            top = probabilities.topk(self.top_k, dim=1)
            probabilities = torch.zeros_like(probabilities).scatter(1, top.indices, top.values)
        return probabilities.clone() if self.digits is None else probabilities.round(decimals=self.digits)

    def surrogate(self, before: nn.Module | None) -> nn.Module | None:
        """The model behind the answer: rounding has no gradient, and the label it answers is nearly always the same."""
        return before
