"""Adversarial training for free: each batch is replayed, and one backward pass serves weights and perturbation.

    d <- P(d + radius u(grad_x loss)),   w <- w - lr grad_w loss        m times on one batch, d from 0

A step costs what a plain one does; a round has as many steps as without replays, and so sees 1 / m of the batches.  The
perturbation is carried over the replays of one batch and no further.  It may not stand inside DP-SGD: m steps on one
batch are no m independent Poisson samples, for which each step is charged, and the carried perturbation is a state of
each record beside the weights (LAWS 5, 6).

Source: Shafahi et al. 2019, Adversarial Training for Free!, arXiv 1904.12843
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from consilium.core.defence import TrainingDefence
from consilium.core.entry import check
from consilium.core.errors import Unlawful
from consilium.core.gradient import GradientRule
from consilium.core.threat import Aim
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.perturbation.ball import Ball, Norm
from consilium.learn.perturbation.balls import ball_of

from ._replayed_batches import ReplayedBatches

__all__ = ["FreeAdversarialTraining"]


@dataclass(frozen=True)
class FreeAdversarialTraining(TrainingDefence):
    """Trains on adversarial examples at the cost of plain training, by replaying batches; not inside DP-SGD."""

    follows_inputs: ClassVar[bool] = True
    mitigates: ClassVar[tuple[Aim, ...]] = ("evasion",)
    not_private: ClassVar[str] = (
        "it replays each batch with a perturbation carried from one step to the next: steps on one batch are not the "
        "independent Poisson samples that each step is charged as, and the perturbation is a record's state beside "
        "the weights"
    )

    radius: float = 0.03
    """How far a point may move, in the norm, in units of the inputs' range [0, 1]; also the length of each step."""
    replays: int = 4
    """How many steps in a row see one batch; so many times fewer batches are seen."""
    norm: Norm = "linf"
    """How distance is measured: the largest change of a value, or the Euclidean length of all."""

    def __post_init__(self) -> None:
        check(0 < self.radius < float("inf"), "radius", self.radius, "a positive number")
        check(2 <= self.replays <= 100, "replays", self.replays, "2 to 100 steps on each batch")

    def ball(self) -> Ball:
        """How far a record may be moved."""
        return ball_of(self.norm, self.radius)

    def rule(self, rule: GradientRule) -> ReplayedBatches:
        """Replayed batches instead of the mean; a rule that makes a claim cannot be replayed.

        Raises Unlawful: ``rule`` is not the plain mean (law 5).
        """
        if not isinstance(rule, MeanGradient):
            raise Unlawful(f"{self.kind()} replaces the plain mean: {self.not_private}", law=5, remedy="use only one")
        return ReplayedBatches(self.ball(), self.replays)
