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
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from consilium.core.attack import Attack
from consilium.core.errors import Failed, Refused
from consilium.core.finding import Finding, Measure
from consilium.core.inputs import Inputs, refuse_tokens
from consilium.core.task import Task
from consilium.core.threat import ModelView
from consilium.core.update import Payload
from consilium.learn.perturbation.ball import Ball, Norm
from consilium.learn.perturbation.balls import ball_of, size_of
from consilium.learn.perturbation.goals import Goal, Misclassification
from consilium.learn.perturbation.losses import AttackLoss
from consilium.learn.perturbation.maximise import ascent
from consilium.measure.intervals import across_seeds, wilson
from consilium.measure.robustness import robust_accuracy

__all__ = ["Evasion", "stand_in"]

_BATCH = 256
_SHOWN = 8
_ROUNDING = 1e-5
"""By how much float32 may overstep a radius."""
_NAMES = ("robust_accuracy", "balanced_robust_accuracy", "success_rate", "mean_linf", "mean_l2")


def stand_in(view: ModelView) -> nn.Module:
    """The differentiable model to follow; refused where the defence gives none.

    Raises Refused: the defence of the model defines no surrogate.
    """
    if view.surrogate is None:
        raise Refused("the model has no surrogate, so its gradients cannot be followed")
    return view.surrogate


@dataclass(frozen=True)
class Evasion(Attack[ModelView], ABC):
    """Finds an input within ``radius`` of each test record that the model answers wrongly.

    ``craft`` gets one batch x ``(n, *shape)``, y ``(n,)`` and returns inputs of the same shape.
    """

    needs: ClassVar[type[ModelView]] = ModelView
    radius: float
    norm: Norm

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse tokens: a ball of ``radius`` is one of numbers."""
        refuse_tokens(inputs, self, "it moves every number of a record by up to a radius, and an id is no quantity")

    @abstractmethod
    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Adversarial inputs for one batch, in [0, 1] and within the budget."""

    def ball(self) -> Ball:
        """How far a record may be perturbed."""
        return ball_of(self.norm, self.radius)

    def goal(self, task: Task) -> Goal:
        """What the attack wants the model to answer: here, anything that is not right."""
        return Misclassification(task)

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
        if self.follows(view) is None:
            reason = "not adaptively evaluated: the defence supplies no surrogate"
            return Finding(
                tuple(Measure.undefined(name, reason, len(view.targets)) for name in _NAMES), notes=(reason,)
            )
        batches = [self._attacked(view, rows, generator) for rows in _batches(len(view.targets))]
        crafted, answers, before, after, reached, blind = (torch.cat(parts) for parts in zip(*batches, strict=True))
        targets = self.goal(view.task).applies(view.targets.y)
        finding = _finding(view, crafted, answers, before, after, reached, targets)
        tried = before & targets
        return _noted(finding, int((tried & blind & ~reached).sum()), int(tried.sum()))

    def _attacked(
        self, view: ModelView, rows: slice, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What was crafted, the answers, which are right before and after, the goal reached, and no gradient."""
        x, y = view.targets.x[rows], view.targets.y[rows]
        crafted = self.craft(view, x, y, generator).detach()
        self._check(crafted, x)
        with torch.no_grad():
            logits, plain = view.module(crafted), view.module(x)
            before, after = view.task.right(plain, y), view.task.right(logits, y)
            reached = self.goal(view.task).reached(logits, y)
        answers = torch.stack([view.task.predicted(plain), view.task.predicted(logits)], 1)
        return crafted, answers, before, after, reached, self._blind(view, x, y)

    def _blind(self, view: ModelView, x: Tensor, y: Tensor) -> Tensor:
        """Where the gradient at the record itself is exactly zero ``(n,)``."""
        loss, followed = self.climbs(view.task), self.follows(view)
        if loss is None or followed is None:
            return torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return ~ascent(followed, x, y, loss, self.goal(view.task))[0].flatten(1).any(1)

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


def _finding(
    view: ModelView, crafted: Tensor, answers: Tensor, before: Tensor, after: Tensor, reached: Tensor, targets: Tensor
) -> Finding:
    """``answers (n, 2, ...)``: as labels, before and after; ``reached``: the goal; ``targets``: whom it is for."""
    x, y, task = view.targets.x, view.targets.y, view.task
    after = before & after
    tried = before & targets
    fooled_records = tried & reached
    delta = (crafted - x)[before]
    shown = torch.cat([torch.nonzero(fooled_records)[:, 0], torch.nonzero(~fooled_records)[:, 0]])[:_SHOWN]
    return Finding(
        (
            *robust_accuracy(after, task.strata(y) if task.exclusive else None, task.most_right(y)),
            _success_rate(int(fooled_records.sum()), int(tried.sum())),
            _size("mean_linf", size_of(delta, "linf")),
            _size("mean_l2", size_of(delta, "l2")),
        ),
        scores={"correct": after, "correct_before": before},
        examples={
            "clean": x[shown],
            "adversarial": crafted[shown],
            "label": y[shown],
            "answer_before": answers[shown, 0],
            "answer_after": answers[shown, 1],
        },
    )


def _noted(finding: Finding, blind: int, tried: int) -> Finding:
    """``finding`` with the number of records left unbroken without a gradient, ``blind`` of those ``tried``."""
    if not blind:
        return finding
    cause = (
        f"the gradient that the attack follows is exactly zero for {blind} of {tried} records, which it left unbroken"
    )
    if 2 * blind <= tried:
        return replace(finding, notes=(*finding.notes, f"Nothing leads the attack there: {cause}."))
    reason = f"not adaptively evaluated: {cause}"
    undefined = tuple(Measure.undefined(m.name, reason, m.n) for m in finding.measures)
    return replace(finding, measures=undefined, notes=(*finding.notes, reason))


def _success_rate(successes: int, tried: int) -> Measure:
    """Of the records that were right before and that the attack is for."""
    if not tried:
        return Measure.undefined("success_rate", "no record was answered rightly before the attack")
    return Measure("success_rate", successes / tried, *wilson(successes, tried), 0.0, tried)


def _size(name: str, values: Tensor) -> Measure:
    """Mean perturbation of the records that were right before (the others need none)."""
    if not len(values):
        return Measure.undefined(name, "no record was answered rightly before the attack")
    mean, low, high = across_seeds(values.tolist())
    return Measure(name, mean, low, high, 0.0, len(values))
