"""Universal: one perturbation for all records, learned on some of them and judged on the others.

    v = argmax_{|v| <= radius} mean over records i of min(gap(x_i + v), cap),      x' = x + v

A perturbation is fitted, so it is judged on records that it was not fitted to: the test records are split in two halves
(every other one), a perturbation is learned on each and added to the records of the other.  So every test record is
judged, and n is their number; each perturbation knows half as many.

Source: Moosavi-Dezfooli et al. 2017, Universal Adversarial Perturbations, CVPR, arXiv 1610.08401; Shafahi et al. 2020,
arXiv 1811.11304 (by stochastic gradients)
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, final

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.finding import Finding
from consilium.core.task import Task
from consilium.core.threat import ModelView, ThreatModel
from consilium.core.update import Payload
from consilium.learn.perturbation.ball import ConvexNorm
from consilium.learn.perturbation.losses import AttackLoss
from consilium.learn.perturbation.nearest.boundary import Boundary, gap_loss
from consilium.learn.perturbation.shared_shift import shared_shift

from ._evasion import Evasion, stand_in

__all__ = ["Universal"]


@dataclass(frozen=True, eq=False)
class _ShiftedView(ModelView):
    """The same view, and what is added to each record that is attacked: ``shifts (2, *shape)`` by ``half (n,)``."""

    shifts: Tensor = field(kw_only=True)
    half: Tensor = field(kw_only=True)


@dataclass(frozen=True)
class Universal(Evasion):
    """Adds one perturbation to all records, learned on one half of them and judged on the other, both ways."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")
    one_for_all: ClassVar[bool] = True
    """It moves records of all classes alike, so no linear model of two classes loses both."""

    radius: float = 0.1
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    norm: ConvexNorm = "linf"
    """How distance is measured: the largest change of a value, the Euclidean length of all, or their sum."""
    epochs: int = 20
    """Passes over the records that a perturbation is learned on."""
    batch: int = 64
    """Records of a step."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        check(self.batch >= 1, "batch", self.batch, "at least 1")

    def climbs(self, task: Task) -> AttackLoss:
        """The gap to the goal."""
        return gap_loss(self.goal_for(task), task)

    @final
    def run(self, view: ModelView, memory: Payload, generator: torch.Generator) -> Finding:  # type: ignore[misc]
        """Learn both perturbations, then have the base attack every record with that of the other half.

        Raises Refused: there are fewer than two records that the goal is for.
        """
        if self.follows(view) is None or not len(view.targets):
            return super().run(view, memory, generator)
        shifts, half = self._learned(view, view.targets.x, view.targets.y, generator)
        shown = {f.name: getattr(view, f.name) for f in fields(ModelView)}
        finding = super().run(_ShiftedView(**shown, shifts=shifts, half=half), memory, generator)
        counts = [int((half == number).sum()) for number in (0, 1)]
        note = f"Two perturbations, learned on {counts[0]} and {counts[1]} test records, each judged on the others."
        return replace(finding, notes=(*finding.notes, note))

    def _attacked(
        self, view: ModelView, rows: slice, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        if isinstance(view, _ShiftedView):
            aimed = self.goal_for(view.task).applies(view.targets.y[rows])
            batch = _ShiftedView(
                **{f.name: getattr(view, f.name) for f in fields(view)} | {"half": view.half[rows][aimed]}
            )
            return super()._attacked(batch, rows, generator)
        return super()._attacked(view, rows, generator)

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Each record with the perturbation that was learned on the other half."""
        if isinstance(view, _ShiftedView):
            shifts, half = view.shifts, view.half
        else:
            shifts, half = self._learned(view, x, y, generator)
        return self.ball().project(x + shifts[1 - half], x)

    def _learned(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The perturbation of each half ``(2, *shape)``, and in which half each record is ``(n,)``."""
        goal = self.goal_for(view.task)
        boundary = Boundary(stand_in(view), view.module, goal, self.climbs(view.task))
        half, aimed = torch.arange(len(x), device=x.device) % 2, goal.applies(y)
        shifts = []
        for number in (0, 1):
            rows = torch.nonzero((half == number) & aimed)[:, 0]
            if not len(rows):
                raise Refused(
                    f"a universal perturbation has no record to learn from: {int(aimed.sum())} of {len(x)} test records "
                    "are such as the goal is for, none in one half",
                    remedy="use more test records, or another goal",
                )
            shifts.append(
                shared_shift(
                    boundary,
                    x[rows],
                    y[rows],
                    ball=self.ball(),
                    epochs=self.epochs,
                    batch=self.batch,
                    generator=generator,
                )
            )
        return torch.stack(shifts), half
