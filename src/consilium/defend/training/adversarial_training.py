"""Adversarial training: learn from the worst input in a small ball around each record, crafted at the current weights.

    min_w  mean_i  alpha loss(w; x_i, y_i) + (1 - alpha) loss(w; x_i', y_i)
    x_i' = argmax_{||x' - x_i|| <= radius} loss(w; x', y_i)

One step is FGSM from a random start (FGSM-RS: step 1.25 radius), without the random start FGSM (step radius); more
steps are PGD-k.  ``alpha`` above 0 is the regularised objective of Goodfellow et al. (there 0.5).  An example is
crafted from its own record, the current weights and its own noise alone, and both losses are one loss of the record:
inside DP-SGD the charge stays as it is (LAWS 5).

Source: Madry et al. 2018, arXiv 1706.06083 (PGD); Wong et al. 2020, arXiv 2001.03994 (FGSM from a random start);
Goodfellow et al. 2015, arXiv 1412.6572 (FGSM, alpha J(x) + (1 - alpha) J(x'))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.gradient import Batch, Objective, Predict
from consilium.learn.perturbation.ball import Norm
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.perturbation.task_loss import attack_loss

from ._inner_maximisation import (
    CLEAN,
    AgainstPerturbation,
    InnerMaximisation,
    both_answers,
    inner_losses,
    refuse_perturbed,
)

__all__ = ["AdversarialTraining"]


@dataclass(frozen=True)
class AdversarialTraining(InnerMaximisation):
    """Trains on adversarial examples crafted at every step (FGSM from a random start, or PGD).

    ``radius`` is in units of the raw input in [0, 1]; ``step_size`` None means 1.25 radius for one step (the radius
    itself without a random start) and 2.5 radius / steps for more; ``share`` is the probability that a record is
    perturbed in a step, an independent coin.  It may stand inside DP-SGD.
    """

    added_later: ClassVar[tuple[str, ...]] = ("random_start", "alpha", "warm_up", "views")

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
    random_start: bool = True
    """Whether the first point is drawn in the ball; one step without it is FGSM, of length radius."""
    alpha: float = 0.0
    """Weight of the loss on the input as it is; that on the perturbed one has the rest."""
    warm_up: int = 0
    """Rounds in which the radius grows from 0 in the first to its whole."""
    views: Literal["each", "first"] = "each"
    """Which of the views that augmentation makes of a record are perturbed: each, or the first alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.share <= 1, "share", self.share, "a probability above 0, at most 1")
        check(0 <= self.alpha < 1, "alpha", self.alpha, "a weight from 0, below 1")

    def objective(self, objective: Objective) -> Objective:
        """The same losses, on adversarial inputs.  Wrapping twice would add the radii up and is refused.

        Raises Unlawful: the defence is applied already.
        """
        refuse_perturbed(self, objective)
        return _AdversarialObjective(objective, defence=self)

    def length(self) -> float:
        """The length of one step in the whole ball."""
        plain_fgsm = self.steps == 1 and not self.random_start and self.step_size is None
        return self.radius if plain_fgsm else super().length()


@dataclass(frozen=True, kw_only=True)
class _AdversarialObjective(AgainstPerturbation):
    """``inner``, evaluated on inputs perturbed by ``defence``, and with weight alpha on those that are not."""

    defence: AdversarialTraining

    @property
    def knobs(self) -> AdversarialTraining:
        """The defence."""
        return self.defence

    def prepare(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> Batch:
        """What ``inner`` prepares, with a random ``share`` of the inputs moved to their worst."""
        batch = self.inner.prepare(predict, x, y, generator)
        coins = torch.rand(len(batch["x"]), generator=generator, device=generator.device) < self.defence.share
        rows = torch.nonzero(coins.to(batch["x"].device) & self._perturbed(batch))[:, 0]
        moved = batch["x"]
        if len(rows) and self.portion > 0:
            worst = self.worst(predict, batch["x"][rows], batch["y"][rows], generator)
            moved = batch["x"].index_copy(0, rows, worst)
        return {**batch, "x": moved, **({CLEAN: batch["x"]} if self.defence.alpha else {})}

    def _perturbed(self, batch: Batch) -> Tensor:
        """Which rows may be perturbed at all: of the views of a record each, or the first."""
        rows = torch.ones(len(batch["x"]), dtype=torch.bool, device=batch["x"].device)
        if self.defence.views == "first" and "record" in batch:
            rows[1:] = batch["record"][1:] != batch["record"][:-1]
        return rows

    def worst(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """By gradient steps up the task's own loss."""
        knobs = self.defence
        return maximise(
            predict, x, y, ball=self.ball(), steps=knobs.steps, step_size=knobs.length() * self.portion,
            generator=generator, random_start=knobs.random_start,
            loss=attack_loss("cross-entropy", self.task), goal=Misclassification(self.task),
        )  # fmt: skip

    def losses(self, predict: Predict, batch: Batch) -> Tensor:
        """Those of ``inner``, ``(n,)``."""
        alpha = self.defence.alpha
        if not alpha:
            return self.inner.losses(predict, batch)
        clean, perturbed = both_answers(predict, batch)
        plain = inner_losses(self.inner, predict, batch, batch[CLEAN], clean)
        return alpha * plain + (1 - alpha) * inner_losses(self.inner, predict, batch, batch["x"], perturbed)
