"""Randomised smoothing: the class that the model names most often under Gaussian noise, with a radius that is proven.

    g(x) = argmax_c P(f(x + z) = c),   z ~ N(0, sigma^2 I)
    radius = sigma Phi^-1(p),          p: lower bound of P(f(x + z) = g(x)) from counted votes, above 1/2

No perturbation of a smaller L2 size changes g, whatever the attack: up to the ``failure`` probability with which the
bound of one record is wrong.  The proof is of g as votes over fresh noise; what is answered are the shares of
``samples`` votes, whose noise is drawn from the record (``learn/record_noise.py``).  A model is worth something under
noise if it was trained under it.

Source: Cohen et al. 2019, Certified Adversarial Robustness via Randomized Smoothing, arXiv 1902.02918 (theorem 1);
Salman et al. 2019, arXiv 1906.04584 (the surrogate: mean of the softmax over draws)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from consilium.core.defence import AnswerDefence
from consilium.core.entry import check
from consilium.core.finding import Measure
from consilium.core.inputs import Inputs, refuse_tokens
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.task import Task, refuse_unless_exclusive
from consilium.core.threat import Aim
from consilium.measure.clustered import mean_limits, share_measure, unit_count

from ._smoothed import MeanSoftmax, Votes, certified_radius, votes_under_noise

__all__ = ["RandomisedSmoothing"]


@dataclass(frozen=True)
class RandomisedSmoothing(AnswerDefence):
    """Answers the votes of the model under Gaussian noise, and proves within which L2 radius they cannot change."""

    mitigates: ClassVar[tuple[Aim, ...]] = ("evasion",)

    sigma: float = 0.25
    """Standard deviation of the noise, in units of the inputs' range [0, 1]; more proves more and costs accuracy."""
    samples: int = 64
    """Votes of an answer."""
    gradient_samples: int = 8
    """Draws whose mean an attack follows (expectation over the noise)."""
    certificate_samples: int = 1000
    """Votes from which a radius is proven: of n unanimous ones at most sigma Phi^-1(failure^(1/n))."""
    selection_samples: int = 100
    """Votes that choose the class first; they prove nothing."""
    failure: float = 0.001
    """Probability that the radius of a record is not proven by its votes."""

    def __post_init__(self) -> None:
        check(self.sigma > 0, "sigma", self.sigma, "a number above 0")
        for knob in ("samples", "gradient_samples", "certificate_samples", "selection_samples"):
            check(getattr(self, knob) >= 1, knob, getattr(self, knob), "at least 1")
        check(0 < self.failure < 0.5, "failure", self.failure, "a probability above 0 and below 0.5")

    def check_task(self, task: Task) -> None:
        """Refuse answers that are no votes for one class."""
        refuse_unless_exclusive(task, self, "it answers the class of most votes")

    def check_inputs(self, inputs: Inputs) -> None:
        """Refuse tokens: noise is added to numbers."""
        refuse_tokens(inputs, self, "it adds noise to numbers, and an id is no quantity")

    def around(self, model: nn.Module) -> nn.Module:
        """The logarithm of the shares of votes."""
        return Votes(model, self.sigma, self.samples)

    def surrogate(self, before: nn.Module | None) -> nn.Module | None:
        """The logarithm of the mean softmax over draws, which has a gradient."""
        return None if before is None else MeanSoftmax(before, self.sigma, self.gradient_samples)

    def certificate(self, model: nn.Module, records: Records, task: Task, stream: Stream) -> tuple[Measure, ...]:
        """Share certified at all and at radius sigma, and the mean radius, where what is not right counts as 0."""
        generator = stream.generator()
        classes = votes_under_noise(model, records.x, self.sigma, self.selection_samples, generator).argmax(1)
        counts = votes_under_noise(model, records.x, self.sigma, self.certificate_samples, generator)
        votes = counts.gather(1, classes[:, None])[:, 0]
        radius = certified_radius(votes, self.certificate_samples, self.sigma, self.failure)
        proven = torch.where(classes == records.y.cpu(), radius, 0.0)
        n, units = len(records), records.units
        return (
            share_measure("certified_accuracy", proven > 0, units, 0.0),
            share_measure("certified_accuracy_at_sigma", proven >= self.sigma, units, 0.0),
            Measure(
                "average_certified_radius", *mean_limits(proven, units), 0.0, n, "L2", unit_count=unit_count(units)
            ),
        )
