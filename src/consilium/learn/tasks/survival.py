"""How long until an event, from tables where some have not had it yet (right-censored times).

    hazard h_j = sigmoid(z_j) of interval j = (c_{j-1}, c_j]          S(c_j) = prod over i <= j of (1 - h_i)
    loss = - sum over intervals survived of log(1 - h_j) - [event in interval k] log h_k

Time is cut at public constants, so the loss is a sum over one record's own intervals: unlike Cox's partial likelihood,
which compares a record with all others at risk, it can be clipped record by record.  An interval in which a record
is censored counts as survived from its middle on.

A record is right where S says so at the ``horizon``: below one half for who had the event by then; for the others at
least one half as long as they are known to be without it, up to the horizon.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.finding import Measure
from consilium.core.random import Stream
from consilium.core.task import Task
from consilium.data.checks.verify import first_wrong
from consilium.learn.rounding import rounding
from consilium.measure.tasks.survival import survival_figures

from ._answers import accuracy, no_figures

__all__ = ["Survival"]

_COLLAPSED = 1e-3
_STEP, _COARSE = 2.0**-23, 1e-3
"""The step of float32 as a share of a number, and the largest that is borne, as a share of an interval."""
_MOST = 0.95
"""So many of the times in one interval are hardly told apart."""


@dataclass(frozen=True)
class Survival(Task):
    """The time to an event, in intervals that end at ``cuts``.

    y: float32 ``(n, 2)``: time above 0, and 1 for an event or 0 for a time without one so far; answers: a logit of the
    hazard in each interval.  ``horizon`` is one of the cuts, by which right and wrong are judged.

    Source: Gensheimer and Narasimhan 2019, A scalable discrete-time survival model, arXiv 1805.00917
    """

    score: ClassVar[str] = "c_index"
    whole: ClassVar[bool] = False

    cuts: tuple[float, ...]
    """Ends of the intervals of time, in the units of y: public constants."""
    horizon: float
    """The time, one of the cuts, by which right and wrong are judged."""

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((0.0, *self.cuts), self.cuts, strict=False))
        check(len(self.cuts) >= 2 and rising, "cuts", list(self.cuts), "two or more times above 0, each above the last")
        apart = all(_COARSE * (b - a) >= _STEP * b for a, b in zip((0.0, *self.cuts), self.cuts, strict=False))
        check(apart, "cuts", list(self.cuts), "cuts further apart, or times from another day on: float32 counts these "
              f"in steps of {_STEP * self.cuts[-1]:.2g}")  # fmt: skip
        check(self.horizon in self.cuts, "horizon", self.horizon, f"one of the cuts {list(self.cuts)}")

    @cached_property
    def _ends(self) -> Tensor:
        return torch.tensor(self.cuts, dtype=torch.float64)

    def names(self, y: Tensor) -> tuple[str, ...]:
        """time and event."""
        return ("time", "event")

    def answer_shape(self, labels: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """One logit for each interval."""
        return (len(self.cuts),)

    def check_labels(self, y: Tensor, labels: Sequence[str], inputs: tuple[int, ...], where: str) -> None:
        """Refuse what is no time above 0 with an event of 0 or 1.

        Raises Refused: another shape, or another value.
        """
        if y.dim() != 2 or y.shape[1] != 2:
            raise Refused(f"labels of shape {tuple(y.shape)}", remedy="give (n, 2): time and event", where=where)
        if (odd := ~(torch.isfinite(y[:, 0]) & (y[:, 0] > 0))).any():
            raise Refused(f"{first_wrong(odd)} no time above 0", remedy="repair or drop it", where=where)
        if (odd := (y[:, 1] != 0) & (y[:, 1] != 1)).any():
            raise Refused(
                f"{first_wrong(odd)} an event that is neither 0 nor 1", remedy="store 1 for an event", where=where
            )

    def check_variety(self, y: Tensor, labels: Sequence[str], where: str) -> tuple[str, ...]:
        """A caution where nobody has the event by the horizon, or nearly all times lie in one interval.

        Raises Refused: no event, or all times in one interval.
        """
        n, events = len(y), int((y[:, 1] > 0.5).sum())
        if not events:
            reason = f"none of the {n} records has an event: there is nothing to foretell"
            raise Refused(reason, remedy="store 1 for an event; or give a longer follow-up", where=where)
        places, counts = torch.unique(torch.bucketize(y[:, 0].double(), self._ends), return_counts=True)
        most = int(counts.argmax())
        interval, count = self._interval(int(places[most])), int(counts[most])
        if count == n:
            raise Refused(
                f"all {n} times lie {interval}, and are one to the task",
                remedy=f"declare cuts among them ({float(y[:, 0].min()):g} to {float(y[:, 0].max()):g}), in their unit",
                where=where,
            )
        notes = []
        if count >= _MOST * n:
            notes.append(f"{count} of {n} times lie {interval}: are the cuts in another unit?")
        if not bool(self._judged(y)[1].any()):
            notes.append(f"none of the {events} events is by the horizon {self.horizon:g}: one answer is right for all")
        return tuple(notes)

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        """The negative log-likelihood."""
        survived, happened = self._intervals(y)
        terms = survived.to(answers.dtype) * F.softplus(answers) + happened.to(answers.dtype) * F.softplus(-answers)
        return terms.sum(1)

    def predicted(self, answers: Tensor) -> Tensor:
        """The end of the interval in which S falls below one half, with an event; the last cut without one if never."""
        below = self._log_survival(answers) < -math.log(2)
        ever = below.any(1)
        ends = self._ends.to(answers.device)
        time = torch.where(ever, ends[below.double().argmax(1)], ends[-1])
        return torch.stack([time, ever.double()], 1).float()

    def right(self, answers: Tensor, y: Tensor) -> Tensor:
        """Where S is on the right side of one half."""
        return (self.margin(answers, y) <= 0) & ~answers.isnan().any(1)

    def margin(self, answers: Tensor, y: Tensor) -> Tensor:
        """By how much log S is on the wrong side of log 1/2."""
        place, died = self._judged(y)
        padded = F.pad(self._log_survival(answers), (1, 0))
        above = padded.gather(1, place[:, None])[:, 0] + math.log(2)
        return torch.where(died, above, -above)

    def surely_wrong(self, answers: Tensor, y: Tensor) -> Tensor:
        """Where it is so by more than rounding."""
        answers = answers.detach()
        return self.margin(answers, y) > rounding(answers) * len(self.cuts) + 1e-5

    def strata(self, y: Tensor) -> Tensor:
        """Event or none, by interval, numbered."""
        kinds = torch.bucketize(y[:, 0].double(), self._ends.to(y.device)) * 2 + y[:, 1].long()
        return torch.unique(kinds, return_inverse=True)[1] if len(y) else torch.zeros(0, dtype=torch.long)

    def most_right(self, y: Tensor) -> int:
        """By one curve for all: above one half up to the horizon, or falling below it there."""
        if not len(y):
            return 0
        place, died = self._judged(y)
        return max(int((~died).sum()), int((died | (place < self._place_of_horizon())).sum()))

    def drawn(self, count: int, labels: int, inputs: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Times uniform up to the last cut, events by a fair coin."""
        time = (1 - torch.rand(count, generator=generator)) * self.cuts[-1]
        return torch.stack([time, torch.randint(2, (count,), generator=generator).float()], 1)

    def mistaken(self, y: Tensor, labels: int, generator: torch.Generator) -> Tensor:
        """No event by the last cut for who had it by the horizon, an event in the first interval for the others."""
        died = self._judged(y)[1]
        late = torch.tensor([self.cuts[-1], 0.0])
        early = torch.tensor([self.cuts[0] / 2, 1.0])
        return torch.where(died[:, None], late, early).to(y.dtype)

    def measures(
        self, answers: Tensor, y: Tensor, units: Tensor, labels: Sequence[str], stream: Stream
    ) -> tuple[Measure, ...]:
        """Accuracy at the horizon, Harrell's c-index, Brier score at the horizon."""
        if undefined := no_figures(answers, self.score):
            return undefined
        answers, y = answers.detach().cpu().double(), y.cpu()
        survival = self._log_survival(answers).exp()
        widths = torch.diff(self._ends, prepend=torch.zeros(1, dtype=torch.float64))
        at_horizon = survival[:, self._place_of_horizon() - 1]
        figures = survival_figures(-(survival * widths).sum(1), at_horizon, y, self.horizon, units.cpu(), stream)
        return (accuracy(self.right(answers, y), units, self.most_right(y)), *figures)

    def is_collapsed(self, answers: Tensor) -> bool:
        """95 % of the records have the same S at the horizon, to a thousandth."""
        if not len(answers):
            return False
        if bool(answers.isnan().any()):
            return True
        at = self._log_survival(answers.detach().double().cpu()).exp()[:, self._place_of_horizon() - 1]
        ends = torch.quantile(at, torch.tensor([0.025, 0.975], dtype=torch.float64))
        return bool(ends[1] - ends[0] < _COLLAPSED)

    def _interval(self, place: int) -> str:
        """Where the times of interval ``place`` lie; the last place is beyond all cuts."""
        ends = (0.0, *self.cuts)
        return f"beyond the last cut, {ends[-1]:g}" if place == len(self.cuts) else (
            f"in one interval, {ends[place]:g} to {ends[place + 1]:g}"
        )  # fmt: skip

    def _place_of_horizon(self) -> int:
        """How many intervals end at or before the horizon."""
        return self.cuts.index(self.horizon) + 1

    def _log_survival(self, answers: Tensor) -> Tensor:
        """log S at each cut ``(n, intervals)``."""
        return -F.softplus(answers).cumsum(1)

    def _intervals(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Which intervals each record survived, and in which it had the event: bool ``(n, intervals)`` each."""
        ends = self._ends.to(y.device)
        starts = F.pad(ends[:-1], (1, 0))
        time, event = y[:, :1].double(), y[:, 1:] > 0.5
        happened = event & (starts < time) & (time <= ends)
        survived = torch.where(event, time > ends, time >= (starts + ends) / 2)
        return survived, happened

    def _judged(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """How many cuts are passed at the moment of judgement ``(n,)``, and who had the event by the horizon."""
        ends = self._ends.to(y.device)
        died = (y[:, 1] > 0.5) & (y[:, 0].double() <= self.horizon)
        known = torch.bucketize(y[:, 0].double(), ends, right=True).clamp_max(self._place_of_horizon())
        return torch.where(died, self._place_of_horizon(), known), died
