"""Gaussian augmentation: every input is trained on under fresh Gaussian noise, in every step.

    loss(f(x + z), y),   z ~ N(0, sigma^2 I)

It is what randomised smoothing (``defend/answer``) needs of a model, with the same ``sigma``.  The noise looks at no
data and each record meets its own, so a clipped gradient is still that of one record and epsilon is what it was.  It is
no differential privacy: the records themselves are not protected by it.

Source: Cohen et al. 2019, Certified Adversarial Robustness via Randomized Smoothing, arXiv 1902.02918, section 3.2
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
from consilium.core.inputs import Inputs, refuse_tokens
from consilium.core.task import Task
from consilium.core.threat import Aim

__all__ = ["GaussianAugmentation"]


@dataclass(frozen=True)
class GaussianAugmentation(TrainingDefence):
    """Trains on inputs with Gaussian noise of standard deviation ``sigma``, drawn anew in every step."""

    mitigates: ClassVar[tuple[Aim, ...]] = ("evasion",)

    sigma: float = 0.25
    """Standard deviation of the noise, in units of the inputs' range [0, 1]; that of the smoothing it is for."""

    def __post_init__(self) -> None:
        check(0 < self.sigma < float("inf"), "sigma", self.sigma, "a number above 0")

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse tokens: noise is added to numbers."""
        refuse_tokens(inputs, self, "it adds noise to numbers, and an id is no quantity")

    def objective(self, objective: Objective) -> Objective:
        """The same losses, on noisy inputs.

        Raises Unlawful: the defence is applied already.
        """
        if isinstance(objective, _Noisy):
            raise Unlawful("gaussian-augmentation is applied twice, and the noise would add up", remedy="name it once")
        return _Noisy(objective, self.sigma)


@dataclass(frozen=True)
class _Noisy(Objective):
    inner: Objective
    sigma: float

    @property
    def task(self) -> Task:
        return self.inner.task

    def prepare(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> Batch:
        """What ``inner`` prepares, under noise: not the other way, or the noise would be an attack's to undo."""
        batch = self.inner.prepare(predict, x, y, generator)
        noise = torch.randn(batch["x"].shape, generator=generator, device=generator.device).to(batch["x"])
        return {**batch, "x": batch["x"] + self.sigma * noise}

    def for_round(self, params: Tensor, predict: Predict) -> Objective:
        inner = self.inner.for_round(params, predict)
        return self if inner is self.inner else replace(self, inner=inner)

    def losses(self, predict: Predict, batch: Batch) -> Tensor:
        return self.inner.losses(predict, batch)
