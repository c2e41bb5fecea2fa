"""The figures of an evasion attack: what it left standing, how often its goal was reached, and how far it moved.

Robust accuracy counts every record that is still answered rightly; the success rate only those that the attack is for
and that were answered rightly without it.  An attack with another goal than any wrong answer says both in a note.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from consilium.core.finding import Finding, Measure
from consilium.core.threat import ModelView
from consilium.learn.perturbation.ball import AnyNorm
from consilium.learn.perturbation.balls import size_of
from consilium.learn.perturbation.goals import Goal
from consilium.measure.clustered import mean_limits, share_measure, unit_count
from consilium.measure.robustness import robust_accuracy

__all__ = ["evasion_finding", "figure_names", "noted_blind", "noted_goal"]

_SHOWN = 8


def figure_names(norm: AnyNorm) -> tuple[str, ...]:
    """The figures of an attack by ``norm``."""
    return ("robust_accuracy", "balanced_robust_accuracy", "success_rate", *(f"mean_{one}" for one in _norms(norm)))


def evasion_finding(
    view: ModelView,
    norm: AnyNorm,
    crafted: Tensor,
    answers: Tensor,
    before: Tensor,
    after: Tensor,
    reached: Tensor,
    targets: Tensor,
) -> Finding:
    """``answers (n, 2, ...)``: as labels, before and after; ``reached``: the goal; ``targets``: whom it is for."""
    x, y, task, units = view.targets.x, view.targets.y, view.task, view.targets.units.cpu()
    after = before & after
    tried = before & targets
    fooled_records = tried & reached
    delta = (crafted - x)[before]
    shown = torch.cat([torch.nonzero(fooled_records)[:, 0], torch.nonzero(~fooled_records)[:, 0]])[:_SHOWN]
    return Finding(
        (
            *robust_accuracy(after, task.strata(y) if task.exclusive else None, task.most_right(y), units),
            _success_rate(reached[tried], units[tried.cpu()]),
            *(_size(f"mean_{one}", size_of(delta, one), units[before.cpu()]) for one in _norms(norm)),
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


def noted_blind(finding: Finding, blind: int, tried: int) -> Finding:
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


def _success_rate(reached: Tensor, units: Tensor) -> Measure:
    """Of the records that were right before and that the attack is for."""
    if not len(reached):
        return Measure.undefined("success_rate", "no record was answered rightly before the attack")
    return share_measure("success_rate", reached, units, 0.0)


def _size(name: str, values: Tensor, units: Tensor) -> Measure:
    """Mean perturbation of the records that were right before (the others need none)."""
    if not len(values):
        return Measure.undefined(name, "no record was answered rightly before the attack")
    return Measure(name, *mean_limits(values, units), 0.0, len(values), unit_count=unit_count(units))


def _norms(norm: AnyNorm) -> tuple[AnyNorm, ...]:
    return ("linf", "l2") if norm in ("linf", "l2") else ("linf", "l2", norm)


def noted_goal(finding: Finding, goal: Goal, y: Tensor) -> Finding:
    """``finding`` with a note of what success is and for which records of ``y (n,)``, where that is not any mistake."""
    meaning = goal.meaning()
    if not meaning:
        return finding
    tried, n = finding["success_rate"].n, len(y)
    others = n - int(goal.applies(y).sum())
    untouched = f" The other {others} of {n} records were left as they are." if others else ""
    note = (
        f"The goal was {meaning}: the success rate is of the {tried} records that it is for and that were answered "
        f"rightly before. Robust accuracy counts any wrong answer; with this goal it is a looser bound.{untouched}"
    )
    return replace(finding, notes=(*finding.notes, note))
