"""What every defence shares that learns from the worst input in a small ball around each record.

    x' = argmax_{||x' - x|| <= r}  L(w; x', x, y)       r = radius * min(1, (round - 1) / warm-up)

A perturbed input is crafted from its own record, the weights at that step and its own noise alone, and what is then
made small is one loss per record.  So clipping that loss's gradient bounds the record and the charge of DP-SGD stays
as it is (LAWS 5).  The round's number is public, and so is the radius.

Source: Madry et al. 2018, arXiv 1706.06083 (min-max); Cai et al. 2018, arXiv 1805.04807 (radii that grow in training)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from consilium.core.defence import TrainingDefence
from consilium.core.entry import check
from consilium.core.errors import Unlawful
from consilium.core.gradient import Batch, Objective, Predict
from consilium.core.task import Task
from consilium.core.threat import Aim
from consilium.learn.perturbation.ball import Ball, Norm
from consilium.learn.perturbation.balls import ball_of

__all__ = [
    "CLEAN",
    "AgainstPerturbation",
    "InnerMaximisation",
    "both_answers",
    "inner_losses",
    "refuse_perturbed",
]

CLEAN = "clean"
"""The name under which a batch carries the inputs as they were, where an objective needs them too."""


@dataclass(frozen=True)
class InnerMaximisation(TrainingDefence, ABC):
    """A defence that perturbs inputs within ``radius``, by ``steps`` gradient steps of ``step_size``."""

    follows_inputs: ClassVar[bool] = True
    mitigates: ClassVar[tuple[Aim, ...]] = ("evasion",)

    radius: float
    steps: int
    step_size: float | None
    norm: Norm
    warm_up: int

    def __post_init__(self) -> None:
        check(0 < self.radius < float("inf"), "radius", self.radius, "a positive number")
        check(1 <= self.steps <= 1000, "steps", self.steps, "1 (FGSM) to 1000 (PGD)")
        check(self.step_size is None or self.step_size > 0, "step-size", self.step_size, "a positive number")
        check(0 <= self.warm_up <= 1_000_000, "warm-up", self.warm_up, "0 (none) to 1000000 rounds")

    @abstractmethod
    def objective(self, objective: Objective) -> Objective:
        """What is made small instead."""

    def ball(self) -> Ball:
        """How far a record may be moved, once the radius is whole."""
        return ball_of(self.norm, self.radius)

    def length(self) -> float:
        """The length of one step in the whole ball."""
        if self.step_size is not None:
            return self.step_size
        return self.radius * (1.25 if self.steps == 1 else 2.5 / self.steps)


@dataclass(frozen=True)
class AgainstPerturbation(Objective, ABC):
    """``inner``, learned on inputs that :meth:`worst` makes; ``portion`` is the share of the radius in this round."""

    inner: Objective
    portion: float = 1.0

    @property
    @abstractmethod
    def knobs(self) -> InnerMaximisation:
        """Whose objective it is."""

    @property
    def task(self) -> Task:
        """That of ``inner``."""
        return self.inner.task

    def for_round(self, params: Tensor, predict: Predict) -> Objective:
        """With ``inner`` as it is in this round."""
        inner = self.inner.for_round(params, predict)
        return self if inner is self.inner else replace(self, inner=inner)

    def in_round(self, number: int) -> Objective:
        """With the radius of round ``number``, from 1 on."""
        portion = min(1.0, (number - 1) / self.knobs.warm_up) if self.knobs.warm_up else 1.0
        return replace(self, inner=self.inner.in_round(number), portion=portion)

    def ball(self) -> Ball:
        """How far a record may be moved in this round."""
        return ball_of(self.knobs.norm, self.knobs.radius * self.portion)

    def prepare(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> Batch:
        """What ``inner`` prepares, its inputs moved to their worst; as they were under the name ``clean``."""
        batch = self.inner.prepare(predict, x, y, generator)
        clean = batch["x"]
        worst = self.worst(predict, clean, batch["y"], generator) if self.portion > 0 else clean
        return {**batch, "x": worst, CLEAN: clean}

    @abstractmethod
    def worst(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Inputs ``(n, *shape)`` in the ball around ``x``."""


def refuse_perturbed(defence: TrainingDefence, objective: Objective) -> None:
    """Refuse an ``objective`` that is perturbed already: the radii would add up.

    Raises Unlawful: it is.
    """
    kind = defence.kind()
    if isinstance(objective, AgainstPerturbation):
        other = objective.knobs.kind()
        reason = f"{kind} is applied twice" if other == kind else f"{kind} is applied on top of {other}"
        raise Unlawful(f"{reason}, and the radii would add up", remedy="name it once" if other == kind else "keep one")


def both_answers(predict: Predict, batch: Batch) -> tuple[Tensor, Tensor]:
    """Answers ``(n, classes)`` to the clean and to the perturbed inputs, in one forward pass."""
    clean, perturbed = predict(torch.cat([batch[CLEAN], batch["x"]])).chunk(2)
    return clean, perturbed


def inner_losses(inner: Objective, predict: Predict, batch: Batch, x: Tensor, answers: Tensor) -> Tensor:
    """Losses ``(n,)`` of ``inner`` on inputs ``x`` whose ``answers`` are known: nothing is answered twice."""

    def known(inputs: Tensor) -> Tensor:
        return answers if inputs is x else predict(inputs)

    return inner.losses(known, {**batch, "x": x})
