"""TRADES: the loss on the input itself, and beta times how far its answer can be moved in a small ball.

    min_w  mean_i  loss(w; x_i, y_i) + beta KL(p(x_i) || p(x_i')),      x_i' = argmax_{||x' - x_i|| <= radius} KL

``beta`` trades clean accuracy for robustness.  Both terms are of one record and are clipped together as one loss, so it
may stand inside DP-SGD (LAWS 5); clipped apart, a record would count twice.  The divergence is zero at the input
itself, and its gradient too: the climb starts at a random point of the ball (the paper's starts 0.001 away).

Source: Zhang et al. 2019, Theoretically Principled Trade-off between Robustness and Accuracy, arXiv 1901.08573
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.gradient import Batch, Objective, Predict
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.learn.perturbation.ball import Norm
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.maximise import maximise

from ._divergence import DivergenceLoss, divergence
from ._inner_maximisation import (
    CLEAN,
    AgainstPerturbation,
    InnerMaximisation,
    both_answers,
    inner_losses,
    refuse_perturbed,
)

__all__ = ["TRADES"]


@dataclass(frozen=True)
class TRADES(InnerMaximisation):
    """Trains on clean inputs, with a penalty on how far answers move in the ball around each; may stand inside DP-SGD.

    Raises ``Refused`` for a knob out of its range, and for a task without exclusive classes.
    """

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    beta: float = 6.0
    """Weight of the divergence; the larger, the more robust and the less accurate."""
    steps: int = 10
    """Gradient steps up the divergence."""
    step_size: float | None = None
    """Length of a step; left out: 1.25 radius for one step, else 2.5 radius / steps."""
    norm: Norm = "linf"
    """How distance is measured: the largest change of a value, or the Euclidean length of all."""
    warm_up: int = 0
    """Rounds in which the radius grows from 0 in the first to its whole."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.beta <= 1e6, "beta", self.beta, "a weight above 0, at most 1e6")

    def check_task(self, task: Task) -> None:
        """Refuse what is not one class a record."""
        refuse_unless_exclusive(task, self, "it compares probabilities of classes that exclude each other")

    def objective(self, objective: Objective) -> Objective:
        """Clean losses and the weighted divergence.

        Raises Unlawful: the inputs are perturbed already.
        """
        refuse_perturbed(self, objective)
        return _TradesObjective(objective, defence=self)


@dataclass(frozen=True, kw_only=True)
class _TradesObjective(AgainstPerturbation):
    defence: TRADES

    @property
    def knobs(self) -> TRADES:
        """The defence."""
        return self.defence

    def worst(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """By gradient steps up the divergence from the answer to ``x``."""
        with torch.no_grad():
            answers = predict(x)
        return maximise(
            predict, x, answers, ball=self.ball(), steps=self.defence.steps,
            step_size=self.defence.length() * self.portion, generator=generator,
            loss=DivergenceLoss(), goal=Misclassification(self.task),
        )  # fmt: skip

    def losses(self, predict: Predict, batch: Batch) -> Tensor:
        """One loss a record ``(n,)``: its own and its share of the penalty."""
        clean, perturbed = both_answers(predict, batch)
        plain = inner_losses(self.inner, predict, batch, batch[CLEAN], clean)
        return plain + self.defence.beta * divergence(clean, perturbed)
