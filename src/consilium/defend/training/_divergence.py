"""How far a model's answer to a perturbed input is from its answer to the input itself.

    KL(p || p') = sum_k p_k (log p_k - log p'_k),      p = softmax f(x),  p' = softmax f(x')

Source: Zhang et al. 2019, arXiv 1901.08573 (TRADES: the surrogate of the boundary error)
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from consilium.core.errors import Refused
from consilium.learn.perturbation.losses import AttackLoss

__all__ = ["DivergenceLoss", "divergence"]


def divergence(clean: Tensor, perturbed: Tensor) -> Tensor:
    """KL ``(n,)`` of the probabilities of logits ``clean`` from those of ``perturbed``, both ``(n, classes)``."""
    before, after = F.log_softmax(clean, 1), F.log_softmax(perturbed, 1)
    return (before.exp() * (before - after)).sum(1)


@dataclass(frozen=True)
class DivergenceLoss(AttackLoss):
    """Climbs the divergence; the ``y`` that it is handed are the logits ``(n, classes)`` of the clean inputs."""

    def untargeted(self, logits: Tensor, y: Tensor) -> Tensor:
        """Away from the clean answer."""
        return divergence(y, logits)

    def targeted(self, logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
        """Raises Refused: a divergence has no target."""
        raise Refused("the divergence from the clean answer has no target", remedy="climb it without a target")
