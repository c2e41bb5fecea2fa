"""AutoAttack: the standard ensemble, worst case per image; what one part does not fool, the next one gets.

    apgd-ce  ->  apgd-t (9 classes)  ->  fab-t (9 classes)  ->  square (5000 queries)
    l1: apgd-ce from 5 starts, apgd-t towards 5 classes, both in three balls that shrink

No part has a knob to tune, and they fail for different reasons: a flat loss stops the first, not the second; no
gradient at all stops three, not the last.  So a record counts as robust only if none of them fools the released model.
A note says how many records each part fooled, and what speaks against the figure: answers that are not the same twice,
gradients that are zero, or answers alone finding what gradients did not.

Reading: an upper bound of the robust accuracy, the one to report; a defence may still need an attack made for it.

Source: Croce and Hein 2020, Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
Attacks, arXiv 2003.01690; Croce and Hein 2021, arXiv 2103.01208 (l1); Tramer et al. 2020, On Adaptive Attacks,
arXiv 2002.08347.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.finding import Finding
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.ball import ConvexNorm
from consilium.learn.perturbation.goals import GoalName

from ._ensemble import ensemble_flags, fooled_by_parts
from ._evasion import Evasion
from .apgd import APGD
from .apgd_t import APGDT
from .fab import FAB
from .square import Square

__all__ = ["AutoAttack"]

_FEWEST = 4
"""Classes that the targeted ratio of logits needs."""
_L1_STARTS, _L1_CLASSES = 5, 5
"""Those of the standard in l1: starts of apgd-ce, classes of apgd-t."""


@dataclass(frozen=True)
class AutoAttack(Evasion):
    """Runs APGD-CE, APGD-T, FAB-T and Square one after the other on what is left; worst case per image."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")
    goals: ClassVar[tuple[GoalName, ...]] = ("misclassification",)
    added_later: ClassVar[tuple[str, ...]] = (*Evasion.added_later, "samples_per_gradient")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    norm: ConvexNorm = "linf"
    """How distance is measured: the largest change of a value, the Euclidean length of all, or their sum."""
    steps: int = 100
    """Gradient steps of each start, and projections towards each class."""
    targets: int = 9
    """How many of the likeliest wrong classes the targeted parts try; all of them where there are fewer.  In l1 apgd-t
    tries 5 at most."""
    queries: int = 5000
    """Answers that the part without gradients asks for, for each record that is left."""
    samples_per_gradient: int = 1
    """Gradients whose mean the parts apgd-ce and apgd-t follow; more than 1 for a model that draws anew at each
    answer."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.targets >= 1, "targets", self.targets, "at least 1")
        check(self.queries >= 2, "queries", self.queries, "at least 2: the record's and a start's")
        check(self.samples_per_gradient >= 1, "samples_per_gradient", self.samples_per_gradient, "at least 1")

    def check_task(self, task: Task) -> None:
        """Refuse what has no classes."""
        super().check_task(task)
        refuse_unless_exclusive(task, self, "its parts walk towards one wrong class after the other")

    def describe(self, classes: Sequence[str]) -> str:
        """What stands in where there are too few classes for the ratio of logits."""
        if len(classes) >= _FEWEST:
            return ""
        return (
            f"has {len(classes)} classes, and the targeted ratio of logits (DLR) needs {_FEWEST}: its part apgd-t "
            "climbs the margin between each wrong class and the right one instead"
        )

    def parts(self) -> Mapping[str, Evasion]:
        """The attacks in their order, by the names of the field."""
        radius, norm, steps, samples = self.radius, self.norm, self.steps, self.samples_per_gradient
        starts, classes = (_L1_STARTS, min(self.targets, _L1_CLASSES)) if norm == "l1" else (1, self.targets)
        crossed = APGD(radius=radius, norm=norm, steps=steps, restarts=starts, samples_per_gradient=samples)
        aimed = APGDT(radius=radius, norm=norm, steps=steps, targets=classes, samples_per_gradient=samples)
        return {
            "apgd-ce": crossed,
            "apgd-t": aimed,
            "fab-t": FAB(radius=radius, norm=norm, steps=steps, targets=self.targets, exhaustive=False),
            "square": Square(radius=radius, norm=norm, queries=self.queries),
        }

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The first point of any part that fools the released model; else the record itself."""
        return self.craft_scored(view, x, y, generator)[0]

    def craft_scored(
        self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """``fooled_by (n,)``: the number of the part that fooled a record, from 1; 0 for none or one wrong before."""
        goal, out = self.goal_for(view.task), x.clone()
        fooled_by = torch.zeros(len(x), dtype=torch.long, device=x.device)
        with torch.no_grad():
            remaining = torch.nonzero(~goal.surely(view.module(x), y))[:, 0]
        for number, part in enumerate(self.parts().values(), start=1):
            if not len(remaining):
                break
            crafted = part.craft(view, x[remaining], y[remaining], generator)
            with torch.no_grad():
                fooled = goal.surely(view.module(crafted), y[remaining])
            out[remaining[fooled]], fooled_by[remaining[fooled]] = crafted[fooled], number
            remaining = remaining[~fooled]
        return out, {"fooled_by": fooled_by}

    def extended(self, view: ModelView, finding: Finding) -> Finding:
        """With notes of how many records each part fooled, of what stood in, and of what speaks against the figure."""
        names, fooled_by = tuple(self.parts()), finding.scores["fooled_by"]
        stand_in_note = self.describe([str(number) for number in range(view.classes)])
        notes = (
            fooled_by_parts(fooled_by, finding.scores["correct_before"], names),
            *((f"{self.kind()} {stand_in_note}.",) if stand_in_note else ()),
            *ensemble_flags(view, fooled_by, names),
        )
        return replace(finding, notes=(*finding.notes, *notes))
