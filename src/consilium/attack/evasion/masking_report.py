"""Masking report: six checks of whether a figure of robustness comes from hidden gradients, each the share that fails.

    unbounded · black box · loss rises with steps · smaller logits · zero gradients · more restarts

The robust accuracy beside them is that of Auto-PGD on the margin.  A check that more than 1 % of the checked records
(and more than one) speak against is a red flag in the notes: the robust accuracies of that model are then no evidence.

Reading: a flag speaks against the figure, not for an attack; no flag is no proof of robustness.

Source: Carlini et al. 2019, On Evaluating Adversarial Robustness, arXiv 1902.06705 (section 3.1); Pintor et al. 2022,
Indicators of Attack Failure, arXiv 2106.09947.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.finding import Finding, Measure
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.ball import Norm
from consilium.learn.perturbation.goals import GoalName
from consilium.learn.perturbation.losses import AttackLoss
from consilium.learn.perturbation.task_loss import attack_loss

from ._evasion import Evasion
from ._masking import CHECKS, Masking, masking_checks
from .apgd import APGD

__all__ = ["MaskingReport"]

_SEED = 0


@dataclass(frozen=True)
class MaskingReport(Evasion):
    """Checks six signs of hidden gradients, and flags the model's robustness where one fails."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")
    goals: ClassVar[tuple[GoalName, ...]] = ("misclassification",)

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    norm: Norm = "linf"
    """How distance is measured: the largest change of a value, or the Euclidean length of all."""
    steps: int = 20
    """Gradient steps of each start; five times as many where the ball holds every input."""
    queries: int = 500
    """Answers that the search without gradients asks for, for each record."""
    records: int = 128
    """Test records that are checked, the first ones; the robust accuracy is of all."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.queries >= 2, "queries", self.queries, "at least 2: the record's and a start's")
        check(self.records >= 1, "records", self.records, "at least 1")

    def check_task(self, task: Task) -> None:
        """Refuse what has no classes."""
        super().check_task(task)
        refuse_unless_exclusive(task, self, "it compares losses of the logits of classes")

    def climbs(self, task: Task) -> AttackLoss:
        """The margin."""
        return attack_loss("margin", task)

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """What Auto-PGD on the margin makes of them."""
        apgd = APGD(radius=self.radius, norm=self.norm, steps=self.steps, loss="margin")
        return apgd.craft(view, x, y, generator)

    def extended(self, view: ModelView, finding: Finding) -> Finding:
        """With the share of records that speak against each check, and a note of each, red flags first."""
        few = replace(view, targets=view.targets.select(torch.arange(min(self.records, len(view.targets)))))
        knobs = Masking(self.radius, self.norm, self.steps, self.queries)
        generator = torch.Generator(view.targets.x.device).manual_seed(_SEED)
        checks = masking_checks(few, knobs, generator)
        reason = "no record that is checked is answered rightly"
        figures = [one.measure() for one in checks] or [
            Measure.undefined(f"masking_{name}", reason, len(few.targets)) for name in CHECKS
        ]
        notes = [one.note() for one in sorted(checks, key=lambda one: one.passed)]
        return replace(finding, measures=(*finding.measures, *figures), notes=(*finding.notes, *notes))
