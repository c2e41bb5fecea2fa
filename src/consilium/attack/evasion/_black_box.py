"""What the attacks share that see answers alone: queries, counted for each record, and a budget of them.

An answer to one point costs its record one query, that to the record itself included.  The judge's own look at what
was crafted is no query.  No gradient is followed, so every defence is attacked as it stands: int8 and rounded answers
too.

Source: Ilyas et al. 2018, Black-box Adversarial Attacks with Limited Queries and Information, arXiv 1804.08598.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from consilium.core.errors import Failed
from consilium.core.finding import Finding, Measure
from consilium.core.threat import ModelView
from consilium.learn.perturbation.goals import Goal
from consilium.learn.perturbation.task_loss import attack_loss

from ._evasion import Evasion

__all__ = ["Answers", "BlackBox"]

_ROWS = 1024
"""Points that are answered at once."""


class Answers:
    """The released model's answers about the records of one batch, counted.

    ``spent (n,)`` are the queries that each record has cost, ``stranded (n,)`` marks those whose search found nowhere
    to start, ``public`` are records that anybody has.  Points belong to ``rows``, numbers of records; one record
    may have several points in one call.
    """

    def __init__(self, view: ModelView, x: Tensor, y: Tensor, goal: Goal, budget: int) -> None:
        self._module, self._shape, self._y, self._goal, self._budget = view.module, x.shape[1:], y, goal, budget
        self._loss = attack_loss("margin", view.task)
        self.spent = torch.zeros(len(x), dtype=torch.long, device=x.device)
        self.stranded = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.public = view.public

    def remaining(self, rows: Tensor) -> Tensor:
        """How many more queries each of the ``rows`` may cost."""
        return self._budget - self.spent[rows]

    def logits(self, points: Tensor, rows: Tensor) -> Tensor:
        """What the model answers to ``points (m, ...)``, reshaped to inputs, of the records ``rows (m,)``.

        Raises Failed: a record would cost more queries than its budget.
        """
        self.spent.index_add_(0, rows, torch.ones_like(rows))
        if len(rows) and int(self.spent.max()) > self._budget:
            raise Failed(f"a record would cost {int(self.spent.max())} queries of {self._budget}")
        with torch.no_grad():
            inputs = points.reshape(len(rows), *self._shape)
            return torch.cat([self._module(part) for part in torch.split(inputs, _ROWS)])

    def scores(self, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The loss to raise ``(m,)`` and whether the goal is reached for sure, bool ``(m,)``."""
        logits, y = self.logits(points, rows), self._y[rows]
        return self._goal.climbed(self._loss, logits, y), self._goal.surely(logits, y)

    def reached(self, points: Tensor, rows: Tensor) -> Tensor:
        """Whether the goal is reached for sure, bool ``(m,)``: all that the answered label says."""
        return self._goal.surely(self.logits(points, rows), self._y[rows])


@dataclass(frozen=True)
class BlackBox(Evasion, ABC):
    """Searches with at most ``queries`` answers for each record.  A subclass writes ``search``."""

    queries: int

    def follows(self, view: ModelView) -> nn.Module | None:
        """The released model itself: answers are all that is needed."""
        return view.module

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """What ``search`` makes of one batch."""
        return self.craft_scored(view, x, y, generator)[0]

    @final
    def craft_scored(
        self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What ``search`` makes of one batch; the ``queries`` of each record, whether it was fooled or stranded."""
        goal = self.goal_for(view.task)
        answers = Answers(view, x, y, goal, self.queries)
        crafted = self.search(answers, x, _fork(generator))
        with torch.no_grad():
            fooled = goal.reached(view.module(crafted), y)
        return crafted, {"queries": answers.spent, "fooled": fooled.long(), "stranded": answers.stranded.long()}

    def extended(self, view: ModelView, finding: Finding) -> Finding:
        """With the figure ``queries``: the median over the records that were right before and were fooled.

        A note counts those whose search found nowhere to start.
        """
        spent, tried = finding.scores["queries"], finding.scores["correct_before"] & (finding.scores["fooled"] >= 0)
        fooled = spent[tried & (finding.scores["fooled"] == 1)].double().sort().values
        figure = _median(fooled, int(tried.sum()))
        scores = {name: score for name, score in finding.scores.items() if name not in ("fooled", "stranded")}
        stranded = int((tried & (finding.scores["stranded"] == 1)).sum())
        note = f"For {stranded} of {int(tried.sum())} records no input was found to start from: they were not searched."
        notes = (*finding.notes, note) if stranded else finding.notes
        return replace(finding, measures=(*finding.measures, figure), scores=scores, notes=notes)

    @abstractmethod
    def search(self, answers: Answers, x: Tensor, generator: torch.Generator) -> Tensor:
        """Adversarial inputs for ``x (n, *shape)``, the records 0 to n - 1 of ``answers``, within radius and [0, 1]."""


def _median(values: Tensor, tried: int) -> Measure:
    """The median of sorted ``values (n,)``; its interval is by ranks, whatever their distribution."""
    n = len(values)
    if not n:
        return Measure.undefined("queries", f"none of the {tried} records was fooled", tried, "queries")
    half = 0.98 * math.sqrt(n)
    ranks = (max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half)))
    low, high = (float(values[rank]) for rank in ranks)
    return Measure("queries", float(values.median()), low, high, n=n, unit="queries")


def _fork(generator: torch.Generator) -> torch.Generator:
    """A generator of this batch's own, so that no batch depends on how long the one before was searched."""
    seed = int(torch.randint(1 << 62, (1,), generator=generator, device=generator.device))
    return torch.Generator(generator.device).manual_seed(seed)
