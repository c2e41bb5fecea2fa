"""Differentially private SGD: clip every example's gradient to C, add Gaussian noise of sigma C, divide by B.

With ``unit = "patient"`` all records of a patient are sampled and clipped together, and the claim is per patient.

Source: Abadi et al. 2016, Deep Learning with Differential Privacy, arXiv 1607.00133; De et al. 2022, arXiv 2204.13650
(``scale`` = 1 / ``clip``)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from consilium.core.defence import TrainingDefence
from consilium.core.entry import check
from consilium.core.errors import Refused, Unlawful
from consilium.core.gradient import GradientRule
from consilium.core.threat import Aim
from consilium.learn.mean_gradient import MeanGradient

from ._dp_sgd_rule import DPSGDRule

__all__ = ["DPSGD"]


@dataclass(frozen=True)
class DPSGD(TrainingDefence):
    """Clips and noises per-example gradients at each site, so that its records are differentially private.

    Give ``epsilon``, what each site spends over all rounds, or ``noise_multiplier``, the same at every site.  Given
    both, ``epsilon`` is a budget: training stops before the round that would overspend it.  ``unit``: whom the claim
    protects, one record or all records of one patient; ``adjacency``: how two data sets differ in one of them.
    ``batch`` is the expected size of a Poisson sample of units, None for the federation's.  ``clipping`` is how a
    gradient is made no longer than ``clip``.  The noisy mean is multiplied by ``scale``: clipped
    gradients are short and need a longer step than those of the same study without privacy; 1 / ``clip`` makes a
    learning rate mean the same under every clip.
    ``chunk`` (None: what fits) is how many examples are held at once.  The guarantee depends on neither.

    Guarantee: whatever a site sends in all rounds is (``epsilon``, ``delta``)-differentially private per ``unit`` under
    ``adjacency``, against everyone outside the site; with ``noise_multiplier`` alone, at the epsilon that the evidence
    states.  It holds for one model: the arms and seeds of a study on the same records do not share one epsilon.

    Raises ``Refused`` for a knob out of its range, and with neither ``epsilon`` nor ``noise_multiplier``.
    """

    mitigates: ClassVar[tuple[Aim, ...]] = ("membership", "reconstruction")

    epsilon: float | None = None
    """What each site spends over all rounds; with `noise-multiplier` too, the budget at which training stops."""
    noise_multiplier: float | None = None
    """Deviation of the noise in units of `clip`; give this, `epsilon`, or both."""
    delta: float = 1e-5
    """Probability with which the bound of epsilon may fail; far below 1 / number of records."""
    clip: float = 1.0
    """Length C to which each gradient is cut."""
    batch: int | None = None
    """Expected size of the Poisson sample of units; left out: the federation's batch."""
    chunk: int | None = None
    """Examples held in memory at once; left out: what fits. The guarantee does not depend on it."""
    unit: Literal["example", "patient"] = "example"
    """Whom the claim protects: one record, or all records of one patient together."""
    adjacency: Literal["add-or-remove-one", "replace-one"] = "add-or-remove-one"
    """How the two data sets differ that must not be told apart: one more or less, or another in its place."""
    clipping: Literal["flat", "per-layer", "automatic"] = "flat"
    """One length for the whole gradient, one for each layer, or every gradient scaled to that length."""
    scale: float = 1.0
    """The noisy mean is multiplied by this; 1 / clip makes a learning rate mean the same under every clip."""

    def __post_init__(self) -> None:
        if self.epsilon is None and self.noise_multiplier is None:
            raise Refused("dp-sgd needs epsilon or noise-multiplier", remedy="give one, or both to stop at a budget")
        for knob in ("epsilon", "noise_multiplier", "clip", "scale"):
            value = getattr(self, knob)
            check(
                value is None or 1e-9 <= value <= 1e9, knob.replace("_", "-"), value, "a positive number, 1e-9 to 1e9"
            )
        check(0 < self.delta < 1, "delta", self.delta, "a probability far below 1/n, such as 1e-5")
        check(self.batch is None or self.batch >= 1, "batch", self.batch, "at least 1")
        check(self.chunk is None or self.chunk >= 1, "chunk", self.chunk, "at least 1")

    def rule(self, rule: GradientRule) -> DPSGDRule:
        """Noisy clipped sums instead of the mean; any other rule cannot be replaced without losing what it promised.

        Raises Unlawful: ``rule`` is not the plain mean.
        """
        if isinstance(rule, DPSGDRule):
            raise Unlawful("dp-sgd is applied twice, and its noise would replace itself", remedy="name dp-sgd once")
        if not isinstance(rule, MeanGradient):
            raise Unlawful(
                f"dp-sgd replaces the plain mean and would undo {type(rule).__name__}", remedy="use only one"
            )
        return DPSGDRule(
            epsilon=self.epsilon,
            sigma=self.noise_multiplier,
            clip=self.clip,
            delta=self.delta,
            batch=self.batch,
            chunk=self.chunk,
            unit=self.unit,
            adjacency=self.adjacency,
            style=self.clipping,
            scale=self.scale,
        )
