"""MART: adversarial training that presses hardest where the input itself is answered wrongly.

    loss_i = -log p_y(x') - log(1 - max_{k != y} p_k(x')) + beta KL(p(x) || p(x')) (1 - p_y(x))

x' is the worst input in the ball by cross-entropy (PGD).  The first two terms are the boosted cross-entropy: the right
class up, the nearest wrong one down.  All terms are of one record and are clipped together as one loss, so it may stand
inside DP-SGD (LAWS 5).

Source: Wang et al. 2020, Improving Adversarial Robustness Requires Revisiting Misclassified Examples, ICLR (openreview
rklOg6EFwS)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from consilium.core.entry import check
from consilium.core.gradient import Batch, Objective, Predict
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.learn.perturbation.ball import Norm
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.perturbation.task_loss import attack_loss

from ._divergence import divergence
from ._inner_maximisation import AgainstPerturbation, InnerMaximisation, both_answers, refuse_perturbed

__all__ = ["MART"]


@dataclass(frozen=True)
class MART(InnerMaximisation):
    """Trains on adversarial examples, weighing records that are wrong without one more; may stand inside DP-SGD.

    It replaces the training loss, which must be the task's own.  Raises ``Refused`` for a knob out of its range, and
    for a task without exclusive classes.
    """

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]."""
    beta: float = 5.0
    """Weight of the divergence between the answers to an input and to its perturbed twin."""
    steps: int = 10
    """Gradient steps up the loss."""
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
        refuse_unless_exclusive(task, self, "it presses the nearest wrong class down, and needs classes")

    def objective(self, objective: Objective) -> Objective:
        """The boosted cross-entropy and the weighted divergence.

        Raises Unlawful: the inputs are perturbed already.
        """
        refuse_perturbed(self, objective)
        return _MartObjective(objective, defence=self)


@dataclass(frozen=True, kw_only=True)
class _MartObjective(AgainstPerturbation):
    defence: MART

    @property
    def knobs(self) -> MART:
        """The defence."""
        return self.defence

    def worst(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """By gradient steps up the cross-entropy."""
        return maximise(
            predict, x, y, ball=self.ball(), steps=self.defence.steps,
            step_size=self.defence.length() * self.portion, generator=generator,
            loss=attack_loss("cross-entropy", self.task), goal=Misclassification(self.task),
        )  # fmt: skip

    def losses(self, predict: Predict, batch: Batch) -> Tensor:
        """One loss a record, ``(n,)``."""
        clean, perturbed = both_answers(predict, batch)
        place = batch["y"][:, None]
        doubt = 1 - F.softmax(clean, 1).gather(1, place)[:, 0]
        return _boosted(perturbed, place) + self.defence.beta * divergence(clean, perturbed) * doubt


def _boosted(logits: Tensor, place: Tensor) -> Tensor:
    """-log p_y - log(1 - max_{k != y} p_k), ``(n,)``, for classes y at ``place (n, 1)``."""
    likely = F.log_softmax(logits, 1)
    nearest = logits.detach().scatter(1, place, float("-inf")).argmax(1, keepdim=True)
    # log(1 - p_k) is the log of the sum of all other probabilities: no difference of nearly equal numbers.
    rest = likely.scatter(1, nearest, float("-inf")).logsumexp(1)
    return -likely.gather(1, place)[:, 0] - rest
