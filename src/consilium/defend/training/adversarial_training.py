"""Adversarial training: learn from the worst input in a small ball around each record, crafted at the current weights.

    min_w  mean_i  max_{||d|| <= radius}  loss(w; x_i + d, y_i)

One step is FGSM from a random start (step 1.25 radius); more steps are PGD.  An example is crafted from its own record,
the current weights and its own noise alone, so that inside DP-SGD the charge stays as it is (LAWS 5).

Source: Madry et al. 2018, arXiv 1706.06083 (PGD); Wong et al. 2020, arXiv 2001.03994 (FGSM from a random start)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.defence import TrainingDefence
from consilium.core.entry import check
from consilium.core.errors import Unlawful
from consilium.core.gradient import Batch, Objective, Predict
from consilium.core.task import Task
from consilium.learn.perturbation.ball import Ball, Norm
from consilium.learn.perturbation.balls import ball_of
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.perturbation.task_loss import attack_loss

__all__ = ["AdversarialTraining"]


@dataclass(frozen=True)
class AdversarialTraining(TrainingDefence):
    """Trains on adversarial examples crafted at every step (FGSM from a random start, or PGD).

    ``radius`` is in units of the raw input in [0, 1]; ``step_size`` None means 1.25 radius for one step and
    2.5 radius / steps for more; ``share`` is the probability that a record is perturbed in a step, an independent coin.
    """

    follows_inputs: ClassVar[bool] = True

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    steps: int = 7
    """Gradient steps of each start."""
    step_size: float | None = None
    """Length of a step; left out: 1.25 radius for one step, else 2.5 radius / steps."""
    norm: Norm = "linf"
    """How distance is measured: the largest change of a value, or the Euclidean length of all."""
    share: float = 1.0
    """Probability that a record is perturbed in a step: an independent coin each time."""

    def __post_init__(self) -> None:
        check(0 < self.radius < float("inf"), "radius", self.radius, "a positive number")
        check(1 <= self.steps <= 1000, "steps", self.steps, "1 (FGSM) to 1000 (PGD)")
        check(self.step_size is None or self.step_size > 0, "step-size", self.step_size, "a positive number")
        check(0 < self.share <= 1, "share", self.share, "a probability above 0, at most 1")

    def objective(self, objective: Objective) -> Objective:
        """The same losses, on adversarial inputs.  Wrapping twice would add the radii up and is refused.

        Raises Unlawful: the defence is applied already.
        """
        if isinstance(objective, _AdversarialObjective):
            raise Unlawful("adversarial-training is applied twice, and the radii would add up", remedy="name it once")
        return _AdversarialObjective(self, objective)

    def ball(self) -> Ball:
        """How far a record may be moved."""
        return ball_of(self.norm, self.radius)

    def length(self) -> float:
        """The length of one step."""
        if self.step_size is not None:
            return self.step_size
        return self.radius * (1.25 if self.steps == 1 else 2.5 / self.steps)


@dataclass(frozen=True)
class _AdversarialObjective(Objective):
    """``inner``, evaluated on inputs perturbed by ``defence``."""

    defence: AdversarialTraining
    inner: Objective

    @property
    def task(self) -> Task:
        """That of ``inner``."""
        return self.inner.task

    def prepare(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> Batch:
        """What ``inner`` prepares, with a random ``share`` of the inputs moved to their worst."""
        batch, knobs = self.inner.prepare(predict, x, y, generator), self.defence
        coins = torch.rand(len(batch["x"]), generator=generator, device=generator.device) < knobs.share
        rows = torch.nonzero(coins)[:, 0].to(x.device)
        if not len(rows):
            return batch
        worst = maximise(
            predict, batch["x"][rows], batch["y"][rows], ball=knobs.ball(),
            steps=knobs.steps, step_size=knobs.length(), generator=generator,
            loss=attack_loss("cross-entropy", self.task), goal=Misclassification(self.task),
        )  # fmt: skip
        return {**batch, "x": batch["x"].index_copy(0, rows, worst)}

    def for_round(self, params: Tensor, predict: Predict) -> Objective:
        """With ``inner`` as it is in this round."""
        inner = self.inner.for_round(params, predict)
        return self if inner is self.inner else replace(self, inner=inner)

    def losses(self, predict: Predict, batch: Batch) -> Tensor:
        """Those of ``inner``, ``(n,)``."""
        return self.inner.losses(predict, batch)
