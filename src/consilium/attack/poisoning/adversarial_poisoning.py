"""Adversarial poisoning: the corrupted site trains on adversarial images under the model's own wrong answers.

    x' = PGD(f, x, y),   y' = what f answers of x'        for a ``share`` of every batch

The images look like the originals and the labels agree with the model's answers to them, so the model is trained to
keep its mistakes.  Each record is drawn by an independent coin per step, not as the last batches of an epoch.

Reading: A corrupted site that teaches the model to keep its answers on perturbed images does adversarial training by
accident, wherever those answers are right: an infected model may withstand evasion better than its clean twin.  That is
no merit of the infection.

Source: Usynin et al. 2022, Can Collaborative Learning Be Private, Robust and Scalable?, arXiv 2205.02652 (there 5 % of
the data, radius 8/255, 20 steps of 2/255).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.attack import Corruption
from consilium.core.entry import check
from consilium.core.gradient import Batch, Objective, Predict
from consilium.core.task import Task
from consilium.core.threat import ThreatModel
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.linf import Linf
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.perturbation.task_loss import attack_loss

__all__ = ["AdversarialPoisoning"]


@dataclass(frozen=True)
class AdversarialPoisoning(Corruption):
    """Replaces a ``share`` of each batch by PGD images (linf ``radius``) labelled with the model's own answer."""

    threat: ClassVar[ThreatModel] = ThreatModel("site", "training", "white-box", "poisoning")
    nist: ClassVar[str | None] = "NISTAML.013"
    follows_inputs: ClassVar[bool] = True

    sites: int = 1
    """How many sites are corrupted; 0 corrupts none."""
    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    steps: int = 7
    """Gradient steps of each start."""
    share: float = 0.5
    """Probability that a record of a batch is perturbed: an independent coin each time."""

    def __post_init__(self) -> None:
        """Check the knobs' ranges."""
        check(self.sites >= 0, "sites", self.sites, "at least 0")
        check(self.radius >= 0, "radius", self.radius, "a number of at least 0")
        check(self.steps >= 1, "steps", self.steps, "at least 1")
        check(0 <= self.share <= 1, "share", self.share, "a share between 0 and 1")

    def ball(self) -> Linf:
        """How far an image is perturbed."""
        return Linf(self.radius)

    def objective(self, objective: Objective) -> Objective:
        """The same losses on the poisoned batch; ``objective`` itself where nothing would be poisoned."""
        return _Poisoned(objective, self) if self.share > 0 else objective


@dataclass(frozen=True)
class _Poisoned(Objective):
    inner: Objective
    knobs: AdversarialPoisoning

    @property
    def task(self) -> Task:
        return self.inner.task

    def prepare(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> Batch:
        coins = torch.rand(len(x), generator=generator, device=generator.device)
        mask = (coins < self.knobs.share).to(x.device)
        if mask.any():
            x, y = x.clone(), y.clone()
            x[mask], y[mask] = self._poison(predict, x[mask], y[mask], generator)
        return self.inner.prepare(predict, x, y, generator)

    def for_round(self, params: Tensor, predict: Predict) -> Objective:
        inner = self.inner.for_round(params, predict)
        return self if inner is self.inner else replace(self, inner=inner)

    def losses(self, predict: Predict, batch: Batch) -> Tensor:
        return self.inner.losses(predict, batch)

    def _poison(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        ball, steps = self.knobs.ball(), self.knobs.steps
        adversarial = maximise(
            predict, x, y, ball=ball, steps=steps, step_size=ball.step_size(steps), generator=generator,
            loss=attack_loss("cross-entropy", self.task), goal=Misclassification(self.task),
        )  # fmt: skip
        with torch.no_grad():
            return adversarial, self.task.predicted(predict(adversarial))
