"""What every evasion attack shares: the whole test set, the budget, the verdict.

A subclass writes ``craft`` and has the knobs ``radius`` and ``norm``.  The base attacks every test record, checks that
what was crafted keeps the budget, and judges success by the released model's answers to whole batches (minimum-norm
attacks look stronger one image at a time).  A record that is wrong without an attack is never counted as robust.

An attack that follows a gradient finds nothing where that is zero, which is no robustness: records that it leaves
unbroken so are counted in a note, and where they are most of all the figures are undefined.

Source: Carlini et al. 2019, On Evaluating Adversarial Robustness, arXiv 1902.06705.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from consilium.core.attack import Attack
from consilium.core.entry import check, check_used
from consilium.core.errors import Failed, Refused
from consilium.core.finding import Finding, Measure
from consilium.core.inputs import Inputs, refuse_tokens
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.threat import ModelView
from consilium.core.update import Payload
from consilium.learn.perturbation.ball import AnyNorm, Ball
from consilium.learn.perturbation.balls import ball_of
from consilium.learn.perturbation.goals import GOALS, Goal, GoalName, goal_of
from consilium.learn.perturbation.losses import AttackLoss
from consilium.learn.perturbation.maximise import ascent

from ._figures import evasion_finding, figure_names, noted_blind, noted_goal

__all__ = ["Evasion", "stand_in"]

_BATCH = 256
_ROUNDING = 1e-5
"""By how much float32 may overstep a radius."""


def stand_in(view: ModelView) -> nn.Module:
    """The differentiable model to follow; refused where the defence gives none.

    Raises Refused: the defence of the model defines no surrogate.
    """
    if view.surrogate is None:
        raise Refused("the model has no surrogate, so its gradients cannot be followed")
    return view.surrogate


@dataclass(frozen=True)
class Evasion(Attack[ModelView], ABC):
    """Finds an input within ``radius`` of each test record whose answer is what the attack wants.

    ``craft`` gets one batch x ``(n, *shape)``, y ``(n,)`` of records that the goal is for, and returns inputs of the
    same shape; the others stay as they are.  ``goals`` are those that the attack can pursue.  A subclass with checks of
    its own calls ``super().__post_init__()``.
    """

    needs: ClassVar[type[ModelView]] = ModelView
    goals: ClassVar[tuple[GoalName, ...]] = GOALS
    limited_by_ball: ClassVar[bool] = True
    """False where the budget is an area or a number of spots, within which the ball may hold every input."""
    added_later: ClassVar[tuple[str, ...]] = ("goal", "target", "source", "confidence")

    radius: float
    norm: AnyNorm
    _: KW_ONLY
    goal: GoalName = "misclassification"
    """What counts as success: any wrong answer, the class target, that for records of the class source alone, or a
    probability of the right class below confidence."""
    target: int | None = None
    """Number of the class, from 0, that the model is to answer, where the goal has one."""
    source: int | None = None
    """Number of the class, from 0, whose records are to be answered as the target, where the goal has one."""
    confidence: float = 0.5
    """Probability below which the right class is to fall, where that is the goal."""

    def __post_init__(self) -> None:
        """Check the goal and its knobs.

        Raises Refused: a goal that the attack cannot pursue, or one without its classes.
        """
        if self.goal not in self.goals:
            allowed = " or ".join(repr(name) for name in self.goals)
            reason = f"{self.kind()} cannot pursue the goal {self.goal!r}"
            raise Refused(reason, remedy=f"use {allowed}", where="goal")
        aimed, sourced = self.goal in ("targeted", "source-to-target"), self.goal == "source-to-target"
        self._check_class("target", self.target, aimed)
        self._check_class("source", self.source, sourced)
        check(not sourced or self.source != self.target, "source", self.source, "a class other than the target")
        check(0 < self.confidence <= 1, "confidence", self.confidence, "a probability above 0, at most 1")
        check_used(self, "confidence", self.goal == "confidence-reduction", f"goal = {self.goal!r}")

    def _check_class(self, knob: str, number: int | None, needed: bool) -> None:
        check(number is None or number >= 0, knob, number, "the number of a class, from 0")
        check_used(self, knob, needed, f"goal = {self.goal!r}")
        if needed and number is None:
            reason = f"the goal {self.goal!r} needs a {knob} class and has none"
            raise Refused(reason, remedy=f"give {knob}, the number of a class from 0", where=knob)

    def check_task(self, task: Task) -> None:
        """Refuse a goal of classes or of their probabilities on a task without classes."""
        if self.goal != "misclassification":
            refuse_unless_exclusive(task, self, f"the goal {self.goal!r} is of classes, of which a record has one")

    def describe(self, classes: Sequence[str]) -> str:
        """The goal by the names of the classes, where that is not any wrong answer."""
        if self.target is None:
            return ""
        every = "every other class" if self.source is None else f"the class {classes[self.source]!r}"
        return f"wants the answer {classes[self.target]!r} for records of {every}"

    def check_fit(self, shape: tuple[int, ...], classes: int) -> None:
        """Refuse a target or source that is no class of the data.

        Raises Refused: a class that the data do not have.
        """
        for knob in ("target", "source"):
            number = getattr(self, knob)
            if number is not None and number >= classes:
                reason = f"{self.kind()} names the {knob} class {number} and the data have {classes}"
                raise Refused(reason, remedy=f"use 0 to {classes - 1}", where=knob)

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse tokens: a ball of ``radius`` is one of numbers."""
        refuse_tokens(inputs, self, "it moves every number of a record by up to a radius, and an id is no quantity")

    @abstractmethod
    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Adversarial inputs for one batch, in [0, 1] and within the budget."""

    def craft_scored(
        self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What ``craft`` makes, and scores ``(n,)`` of the records for the evidence: here, none.

        Records that the goal is not for have the score -1.
        """
        return self.craft(view, x, y, generator), {}

    def extended(self, view: ModelView, finding: Finding) -> Finding:
        """The finding as it is handed on: with figures or notes that are of this attack alone; here, unchanged."""
        return finding

    def prepared(self, view: ModelView, generator: torch.Generator) -> ModelView:
        """The view that every batch gets: with what is fitted once, before the first; here, as it is."""
        return view

    def ball(self) -> Ball:
        """How far a record may be perturbed."""
        return ball_of(self.norm, self.radius)

    def goal_for(self, task: Task) -> Goal:
        """What the attack wants of a model of that ``task``."""
        return goal_of(self.goal, task, target=self.target, source=self.source, confidence=self.confidence)

    def follows(self, view: ModelView) -> nn.Module | None:
        """The model whose gradients or answers guide ``craft``; None means that the attack cannot be adaptive."""
        return view.surrogate

    def climbs(self, task: Task) -> AttackLoss | None:
        """The loss whose gradient guides ``craft``; None for an attack that follows no gradient."""
        return None

    @final
    def run(self, view: ModelView, memory: Payload, generator: torch.Generator) -> Finding:
        """Attack every test record.  Raises ``Failed`` when ``craft`` breaks its budget.

        Scores: ``correct``, ``correct_before`` (n,).  Examples: up to eight records, successes first.

        Raises Refused: the view has no test records.
        """
        if not len(view.targets):
            raise Refused("there are no test records to attack")
        self.check_task(view.task)
        self.check_fit(tuple(view.targets.x.shape[1:]), view.classes)
        if self.follows(view) is None:
            reason = "not adaptively evaluated: the defence supplies no surrogate"
            return Finding(
                tuple(Measure.undefined(name, reason, len(view.targets)) for name in figure_names(self.norm)),
                notes=(reason,),
            )
        view = self.prepared(view, generator)
        scores, batches = zip(
            *(self._attacked(view, rows, generator) for rows in _batches(len(view.targets))), strict=True
        )
        crafted, answers, before, after, reached, blind = (torch.cat(parts) for parts in zip(*batches, strict=True))
        goal = self.goal_for(view.task)
        targets = goal.applies(view.targets.y)
        finding = evasion_finding(view, self.norm, crafted, answers, before, after, reached, targets)
        joined = {name: torch.cat([one[name] for one in scores]) for name in scores[0]}
        finding = replace(finding, scores={**finding.scores, **joined})
        tried = before & targets
        finding = noted_blind(finding, int((tried & blind & ~reached).sum()), int(tried.sum()))
        return self.extended(view, noted_goal(finding, goal, view.targets.y))

    def _attacked(
        self, view: ModelView, rows: slice, generator: torch.Generator
    ) -> tuple[Mapping[str, Tensor], tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]]:
        """Scores; what was crafted, the answers, which are right before and after, the goal reached, no gradient."""
        x, y = view.targets.x[rows], view.targets.y[rows]
        crafted, scores = self._crafted(view, x, y, generator)
        self._check(crafted, x)
        with torch.no_grad():
            logits, plain = view.module(crafted), view.module(x)
            before, after = view.task.right(plain, y), view.task.right(logits, y)
            reached = self.goal_for(view.task).reached(logits, y)
        answers = torch.stack([view.task.predicted(plain), view.task.predicted(logits)], 1)
        return scores, (crafted, answers, before, after, reached, self._blind(view, x, y))

    def _crafted(
        self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """What is crafted of the records that the goal is for, and their scores; the others as they are."""
        rows = torch.nonzero(self.goal_for(view.task).applies(y))[:, 0]
        if len(rows) == len(x):
            crafted, scores = self.craft_scored(view, x, y, generator)
            return crafted.detach(), scores
        part, scores = self.craft_scored(view, x[rows], y[rows], generator)
        filled = {name: score.new_full((len(x),), -1).index_copy(0, rows, score) for name, score in scores.items()}
        return x.index_copy(0, rows, part.detach()), filled

    def _blind(self, view: ModelView, x: Tensor, y: Tensor) -> Tensor:
        """Where the gradient at the record itself is exactly zero ``(n,)``."""
        loss, followed = self.climbs(view.task), self.follows(view)
        if loss is None or followed is None:
            return torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return ~ascent(followed, x, y, loss, self.goal_for(view.task))[0].flatten(1).any(1)

    def _check(self, crafted: Tensor, x: Tensor) -> None:
        if crafted.shape != x.shape or crafted.dtype != x.dtype or not crafted.isfinite().all():
            raise Failed(f"attack {self.kind()} crafted no finite inputs of shape {tuple(x.shape)}")
        size, low, high = float(self.ball().size(crafted - x).max()), float(crafted.min()), float(crafted.max())
        if size > self.radius + _ROUNDING or low < 0 or high > 1:
            raise Failed(
                f"attack {self.kind()} broke its budget: {self.norm} size {size:.6g} of {self.radius:.6g}, "
                f"values from {low:.4g} to {high:.4g}",
                remedy="project what it crafts (Ball.project)",
            )


def _batches(n: int) -> Iterator[slice]:
    return (slice(first, first + _BATCH) for first in range(0, n, _BATCH))
