"""Numbers instead of classes: a dose, an age, a volume.

    loss = mean over k of (a_k - s_k)^2,   s_k = (y_k - low) / (high - low)     answer: low + a (high - low)

The range is a public constant of the study, never read from the records (LAWS 9): it makes losses of unlike quantities
alike, and bounds what one record can do.  A record is right where every quantity is within ``tolerance`` of the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.core.task import Task
from consilium.data.checks.verify import first_wrong
from consilium.learn.rounding import rounding
from consilium.measure.tasks.regression import regression_figures

from ._answers import accuracy, no_figures

__all__ = ["Regression"]

_STRATA = 5
_STEP, _COARSE = 2.0**-23, 1e-3
"""The step of float32 as a share of a number, and the largest that is borne, as a share of the range."""
_NARROW = 0.01
"""Labels that reach over less of the declared range are hardly told apart."""
_CONSTANT = 1e-3
"""Answers that spread less than this share of the range are all the same."""


@dataclass(frozen=True)
class Regression(Task):
    """One or several numbers for each record, between ``low`` and ``high``.

    y: float32 ``(n, quantities)`` in their own units; answers: one number a quantity, 0 at ``low`` and 1 at ``high``.
    ``tolerance``, in the units of y, is how far a right answer may be off.

    Source: Gauss 1809 (least squares)
    """

    score: ClassVar[str] = "r2"
    whole: ClassVar[bool] = False
    logits: ClassVar[bool] = False

    low: float
    """The value, in the units of y, that the answer 0 stands for: a public constant."""
    high: float
    """The value, in the units of y, that the answer 1 stands for: a public constant above `low`."""
    tolerance: float
    """How far a right answer may be off, in the units of y: above 0 and below high - low."""

    def __post_init__(self) -> None:
        check(self.low < self.high, "high", self.high, f"a number above low = {self.low:g}")
        span = self.high - self.low
        size = max(abs(self.low), abs(self.high))
        check(size * _STEP <= _COARSE * span, "high", self.high, f"a range that is wide for numbers of {size:g}: in "
              f"float32 they count in steps of {size * _STEP:.2g}; subtract a constant from the labels")  # fmt: skip
        check(0 < self.tolerance < span, "tolerance", self.tolerance, f"more than 0, less than high - low = {span:g}")

    def answer_shape(self, labels: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """One number for each quantity."""
        return (labels,)

    def check_labels(self, y: Tensor, labels: Sequence[str], inputs: tuple[int, ...], where: str) -> None:
        """Refuse what is no number within the declared range for each record and quantity.

        Raises Refused: another shape, a number that is not finite, or one outside the range.
        """
        if y.dim() != 2 or y.shape[1] != len(labels):
            raise Refused(
                f"labels of shape {tuple(y.shape)} for {len(labels)} quantities",
                remedy="give (n, quantities): one column of numbers for each",
                where=where,
            )
        if (odd := ~torch.isfinite(y).all(1)).any():
            raise Refused(f"{first_wrong(odd)} a label that is no number", remedy="repair or drop it", where=where)
        if (odd := ((y < self.low) | (y > self.high)).any(1)).any():
            raise Refused(
                f"{first_wrong(odd)} a label outside the declared range, {self.low:g} to {self.high:g}",
                remedy="declare a range that holds every possible value (task.low, task.high)",
                where=where,
            )

    def check_variety(self, y: Tensor, labels: Sequence[str], where: str) -> tuple[str, ...]:
        """Cautions about a range far wider than the labels, and a tolerance that one answer meets for all records.

        Raises Refused: a quantity that is the same in every record.
        """
        spread = (y.amax(0).double() - y.amin(0).double()).tolist()
        shares = {name: width / (self.high - self.low) for name, width in zip(labels, spread, strict=True)}
        for name, share in shares.items():
            if share == 0:
                reason = f"{name!r} is the same number in all of the {len(y)} records: there is nothing to learn"
                raise Refused(
                    reason, remedy="leave this quantity out, or give records in which it differs", where=where
                )
        narrow = [
            f"{name!r} reaches over {share:.2g} of the declared range {self.low:g} to {self.high:g} only: is it the "
            "range of another unit?"
            for name, share in shares.items()
            if share < _NARROW
        ]
        if max(spread) <= 2 * self.tolerance:
            narrow.append(f"one answer is right for all records: no two labels are further apart than twice the "
                f"tolerance of {self.tolerance:g}")  # fmt: skip
        return tuple(narrow)

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        """Squared error as shares of the range, the mean over the quantities."""
        return (answers - self._scaled(answers, y)).square().mean(1)

    def predicted(self, answers: Tensor) -> Tensor:
        """The answers in the units of y."""
        return self.low + answers.float() * (self.high - self.low)

    def right(self, answers: Tensor, y: Tensor) -> Tensor:
        """Where every quantity is within the tolerance."""
        return self.margin(answers, y) <= 0

    def margin(self, answers: Tensor, y: Tensor) -> Tensor:
        """By how much the worst quantity exceeds the tolerance, as a share of the range."""
        return (answers - self._scaled(answers, y)).abs().amax(1) - self.tolerance / (self.high - self.low)

    def surely_wrong(self, answers: Tensor, y: Tensor) -> Tensor:
        """Where it does so by more than rounding."""
        return self.margin(answers.detach(), y) > rounding(answers).clamp_min(1e-6)

    def strata(self, y: Tensor) -> Tensor:
        """Fifths of the first quantity's order."""
        ranks = y[:, 0].argsort(stable=True).argsort(stable=True)
        return ranks * _STRATA // max(len(y), 1)

    def most_right(self, y: Tensor) -> int:
        """By a constant: the window of twice the tolerance that holds most records (of the first quantity, at most)."""
        values = y[:, 0].double().sort().values
        last = torch.searchsorted(values, values + 2 * self.tolerance, right=True)
        return int((last - torch.arange(len(values))).max()) if len(values) else 0

    def drawn(self, count: int, labels: int, inputs: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Uniform over the range."""
        return self.low + torch.rand(count, labels, generator=generator) * (self.high - self.low)

    def mistaken(self, y: Tensor, labels: int, generator: torch.Generator) -> Tensor:
        """Reflected at the middle of the range, or moved by half of it where that is no other number."""
        reflected, middle = self.low + self.high - y, (self.low + self.high) / 2
        near = (reflected - y).abs() <= self.tolerance
        return torch.where(near, torch.where(y < middle, y + middle - self.low, y - middle + self.low), reflected)

    def measures(
        self, answers: Tensor, y: Tensor, units: Tensor, labels: Sequence[str], stream: Stream
    ) -> tuple[Measure, ...]:
        """Accuracy (within the tolerance), R2 and mean absolute error, with several quantities of each."""
        if undefined := no_figures(answers, self.score):
            return undefined
        figures = regression_figures(self.predicted(answers).cpu(), y.cpu(), units.cpu(), labels, stream)
        return (accuracy(self.right(answers, y).cpu(), units, self.most_right(y.cpu())), *figures)

    def is_collapsed(self, answers: Tensor) -> bool:
        """95 % of the answers lie within a thousandth of the range."""
        if not len(answers):
            return False
        if bool(answers.isnan().any()):
            return True
        ends = torch.quantile(answers.detach().double().cpu(), torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
        return bool((ends[1] - ends[0] < _CONSTANT).all())

    def _scaled(self, answers: Tensor, y: Tensor) -> Tensor:
        return ((y - self.low) / (self.high - self.low)).to(answers.dtype)
