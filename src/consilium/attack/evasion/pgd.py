"""Projected gradient descent: steps along the gradient, projected back into the ball, from random starts.

A record counts as fooled if any point of any restart fools the released model; fooled records drop out of the batch,
which changes no verdict and saves their share of the work.  Behind int8 or rounded answers the gradients are those of
the surrogate (straight-through, BPDA), the verdict that of the released model.

    loss = cross-entropy    -log p(y | x), whose gradient vanishes where the model is sure of itself
    loss = margin           best wrong logit - right logit: the same direction at any scale of the logits

What withstands PGD has withstood PGD: its figure is an upper bound of the robust accuracy (LAWS 26).

Source: Madry et al. 2018, arXiv 1706.06083; Athalye et al. 2018, arXiv 1802.00420 (BPDA) and 1707.07397 (samples
per gradient); Carlini and Wagner 2017, arXiv 1608.04644 (margin).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.errors import Refused
from consilium.core.task import Task
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.perturbation.ball import ConvexNorm
from consilium.learn.perturbation.losses import AttackLoss, LossName
from consilium.learn.perturbation.maximise import maximise, mean_logits
from consilium.learn.perturbation.task_loss import attack_loss

from ._evasion import Evasion, stand_in

__all__ = ["PGD"]


@dataclass(frozen=True)
class PGD(Evasion):
    """Follows the released model's gradient in small projected steps, worst case over restarts per image.

    ``radius`` in units of the inputs' range [0, 1]; ``step_size`` None means 2.5 * radius / steps.
    """

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")
    added_later: ClassVar[tuple[str, ...]] = (*Evasion.added_later, "samples_per_gradient")

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    steps: int = 20
    """Gradient steps of each start."""
    step_size: float | None = None
    """Length of a step; left out: 2.5 radius / steps."""
    norm: ConvexNorm = "linf"
    """How distance is measured: the largest change of a value, the Euclidean length of all, or their sum."""
    restarts: int = 1
    """Random starts; a record counts as fooled if any of them fools the model."""
    random_start: bool = True
    """Whether each start is a random point of the ball, and not the record itself."""
    loss: LossName = "cross-entropy"
    """What is maximised; the margin's gradient does not vanish where the model is sure of itself."""
    samples_per_gradient: int = 1
    """Gradients whose mean is followed, and answers whose mean is judged on the way; more than 1 for a model that draws
    anew at each answer."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        super().__post_init__()
        check(self.radius > 0, "radius", self.radius, "a number above 0")
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.step_size is None or self.step_size > 0, "step-size", self.step_size, "a positive number")
        check(self.restarts >= 1, "restarts", self.restarts, "at least 1")
        check(self.samples_per_gradient >= 1, "samples_per_gradient", self.samples_per_gradient, "at least 1")
        reach = self.steps * (self.step_size or self.radius)
        if not self.random_start and reach < self.radius * (1 - 1e-6):
            reason = f"{self.steps} steps of {self.step_size:g} reach {reach:.3g} of the radius {self.radius:g}"
            raise Refused(reason, remedy="use a larger step-size, or leave it out", where="step-size")
        check(self.random_start or self.restarts == 1, "restarts", self.restarts, "1 where random-start is false")

    def climbs(self, task: Task) -> AttackLoss:
        """The loss by its name."""
        return attack_loss(self.loss, task)

    def craft(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """The first point of any restart that fools ``view.module``; else the last one."""
        out, alive = x.clone(), torch.arange(len(x), device=x.device)
        for restart in range(self.restarts):
            if restart:
                logits = mean_logits(view.module, out[alive], self.samples_per_gradient)
                alive = alive[~self.goal_for(view.task).surely(logits, y[alive])]
            if len(alive):
                out[alive] = self._once(view, x[alive], y[alive], generator)
        return out

    def _once(self, view: ModelView, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        return maximise(
            stand_in(view),
            x,
            y,
            ball=self.ball(),
            steps=self.steps,
            step_size=self.step_size or self.ball().step_size(self.steps),
            random_start=self.random_start,
            generator=generator,
            loss=self.climbs(view.task),
            goal=self.goal_for(view.task),
            until=view.module,
            samples=self.samples_per_gradient,
        )
