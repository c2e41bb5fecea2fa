"""Transfer: PGD on another model, tried on this one.

The adversary has a model of its own (an undefended arm of the same study) and no gradient of the released one.  It
takes all its steps: stopping where its own model is fooled would leave points too close to that model's boundary.
Robustness to transfer alone is an upper bound: the adversary may have a better model than the one it crafted on.

Source: Papernot et al. 2016, Transferability in Machine Learning, arXiv 1605.07277.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.task import Task
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.ball import ConvexNorm
from consilium.learn.perturbation.losses import AttackLoss
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.perturbation.task_loss import attack_loss

from ._evasion import Evasion, stand_in

__all__ = ["Transfer"]


@dataclass(frozen=True)
class Transfer(Evasion):
    """Crafts with PGD on the source model and tries the result on the released one.

    ``radius`` in units of the inputs' range [0, 1]; ``step_size`` None means 2.5 * radius / steps.
    """

    threat: ClassVar[ThreatModel] = ThreatModel("outsider", "inference", "transfer", "evasion")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    steps: int = 20
    """Gradient steps of each start."""
    step_size: float | None = None
    """Length of a step; left out: 2.5 radius / steps."""
    norm: ConvexNorm = "linf"
    """How distance is measured: the largest change of a value, the Euclidean length of all, or their sum."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.step_size is None or self.step_size > 0, "step-size", self.step_size, "a positive number")

    def follows(self, view: ModelView) -> nn.Module | None:
        """The source's surrogate; refused without a source."""
        return self._source(view).surrogate

    def climbs(self, task: Task) -> AttackLoss:
        """The task's own loss: cross-entropy for classes."""
        return attack_loss("cross-entropy", task)

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """PGD's last point on the source model."""
        return maximise(
            stand_in(self._source(view)),
            x,
            y,
            ball=self.ball(),
            steps=self.steps,
            step_size=self.step_size or self.ball().step_size(self.steps),
            generator=generator,
            loss=self.climbs(view.task),
            goal=self.goal_for(view.task),
        )

    def _source(self, view: ModelView) -> ModelView:
        if view.source is None:
            raise Refused(
                f"attack {self.kind()} needs a source model to craft on and the view has none",
                remedy='name the arm to craft on: from = { privacy = "none", ... }',
            )
        return view.source
