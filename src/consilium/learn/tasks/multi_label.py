"""Several findings a record, each present or absent on its own (a chest X-ray with effusion and cardiomegaly).

    loss = mean over k of log(1 + exp(-s_k z_k)),   s_k = 2 y_k - 1     finding k is right where s_k z_k > 0

A record is right where at least the share ``right_share`` of its findings is; by default every one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.core.task import Task
from consilium.data.checks.omissions import first
from consilium.data.checks.verify import first_wrong
from consilium.learn.rounding import rounding
from consilium.measure.tasks.multi_label import multi_label_figures

from ._answers import accuracy, commonest, no_figures

__all__ = ["MultiLabel"]

_COLLAPSED = 0.95
_SHOWN = 3


@dataclass(frozen=True)
class MultiLabel(Task):
    """Several findings for each record, each present (1) or absent (0).

    y: int64 ``(n, findings)`` of 0 and 1; answers: one logit a finding.  ``right_share`` is the share of a record's
    findings that must be answered rightly for the record to count as right.

    Source: Boutell et al. 2004, Learning multi-label scene classification (one binary problem a label)
    """

    score: ClassVar[str] = "macro_auroc"
    counted: ClassVar[bool] = True

    right_share: float = 1.0
    """Share of a record's findings that must be answered rightly for the record to count as right."""

    def __post_init__(self) -> None:
        check(0 < self.right_share <= 1, "right-share", self.right_share, "a share above 0, at most 1")

    def answer_shape(self, labels: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """One logit for each finding."""
        return (labels,)

    def check_labels(self, y: Tensor, labels: Sequence[str], inputs: tuple[int, ...], where: str) -> None:
        """Refuse what is not 0 or 1 for each record and finding.

        Raises Refused: another shape, or another value.
        """
        if y.dim() != 2 or y.shape[1] != len(labels):
            raise Refused(
                f"labels of shape {tuple(y.shape)} for {len(labels)} findings",
                remedy="give (n, findings): one column of 0 and 1 for each finding, in the order of their names",
                where=where,
            )
        if (odd := ((y != 0) & (y != 1)).any(1)).any():
            value = y[odd][0][(y[odd][0] != 0) & (y[odd][0] != 1)][0]
            raise Refused(
                f"{first_wrong(odd)} a finding that is neither 0 nor 1 (such as {value:g})",
                remedy="store 1 where a finding is present, 0 where it is absent",
                where=where,
            )

    def check_variety(self, y: Tensor, labels: Sequence[str], where: str) -> tuple[str, ...]:
        """A caution by name for findings that every record has, or none.

        Raises Refused: no finding is in some of the records alone.
        """
        n, present = len(y), y.sum(0).tolist()
        constant = [name for name, count in zip(labels, present, strict=True) if count in (0, n)]
        if len(constant) == len(labels):
            reason = f"every finding is in all of the {n} records, or in none: there is nothing to tell apart"
            raise Refused(reason, remedy="give records with and without a finding", where=where)
        notes = []
        if constant:
            names = ", ".join(map(repr, first(constant)))
            notes.append(
                f"{len(constant)} of {len(labels)} findings ({names}) are in all of the {n} records, or in none"
            )
        if len(labels) > 1 and bool((y.sum(1) == 1).all()):
            notes.append('every record has exactly one finding: are they classes? (task = "single-label")')
        earlier: dict[bytes, str] = {}
        pairs = [(name, earlier.setdefault(y[:, k].cpu().numpy().tobytes(), name)) for k, name in enumerate(labels)]
        same = [(one, name) for name, one in pairs if one != name and name not in constant]
        notes += [
            f"findings {one!r} and {other!r} are the same in all of the {n} records" for one, other in same[:_SHOWN]
        ]
        return tuple(notes)

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        """Binary cross-entropy, the mean over the findings."""
        return F.binary_cross_entropy_with_logits(answers, y.to(answers.dtype), reduction="none").mean(1)

    def predicted(self, answers: Tensor) -> Tensor:
        """1 where a finding's probability is above one half."""
        return (answers > 0).long()

    def right(self, answers: Tensor, y: Tensor) -> Tensor:
        """Where enough findings are answered rightly."""
        return (self.margin(answers, y) < 0) & ~answers.isnan().any(1)

    def margin(self, answers: Tensor, y: Tensor) -> Tensor:
        """-s z of the finding that decides, the (j + 1)-th largest of them, j wrong ones being allowed."""
        allowed = y.shape[1] - math.ceil(self.right_share * y.shape[1] - 1e-9)
        return (answers * (1 - 2 * y)).sort(dim=1, descending=True).values[:, allowed]

    def surely_wrong(self, answers: Tensor, y: Tensor) -> Tensor:
        """Where the finding that decides is wrong by more than rounding."""
        return self.margin(answers.detach(), y) > rounding(answers)

    def strata(self, y: Tensor) -> Tensor:
        """The combinations of findings that occur, numbered."""
        return torch.unique(y, dim=0, return_inverse=True)[1] if len(y) else y.new_zeros(0)

    def most_right(self, y: Tensor) -> int:
        """By an answer that is the commonest combination; with a lower share, at least as many."""
        if self.right_share == 1.0 or not len(y):
            return commonest(y)
        common, counts = torch.unique(y, dim=0, return_counts=True)
        candidates = common[counts.argsort(descending=True)[:64]]
        shares = [(candidate == y).double().mean(1) for candidate in candidates]
        return max(int((share >= self.right_share - 1e-9).sum()) for share in shares)

    def drawn(self, count: int, labels: int, inputs: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Each finding by a fair coin."""
        return torch.randint(2, (count, labels), generator=generator)

    def mistaken(self, y: Tensor, labels: int, generator: torch.Generator) -> Tensor:
        """Every finding turned round in a random part of each record, at least in one."""
        flips = torch.rand(y.shape, generator=generator) < 0.5
        flips[torch.arange(len(y)), torch.randint(y.shape[1], (len(y),), generator=generator)] = True
        return torch.where(flips, 1 - y, y)

    def measures(
        self, answers: Tensor, y: Tensor, units: Tensor, labels: Sequence[str], stream: Stream
    ) -> tuple[Measure, ...]:
        """Accuracy (records), label accuracy, macro AUROC and average precision, both of each finding, Brier, ECE."""
        if undefined := no_figures(answers, self.score):
            return undefined
        right = self.right(answers, y).cpu()
        figures = multi_label_figures(answers.detach().cpu(), y.cpu(), units.cpu(), labels, stream)
        return (accuracy(right, units, self.most_right(y.cpu())), *figures)

    def stored(self, answers: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The logit of each finding and whether it is there: ``answers`` and ``truth``, both ``(n, k)``."""
        return {"answers": answers.detach(), "truth": y}

    def is_collapsed(self, answers: Tensor) -> bool:
        """More than 95 % of the records get the same findings."""
        if not len(answers):
            return False
        return bool(answers.isnan().any()) or commonest(self.predicted(answers)) > _COLLAPSED * len(answers)
