"""The default objective of training: cross-entropy with the label."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from consilium.core.gradient import Batch, Objective, Predict

__all__ = ["CrossEntropy"]


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """-log p(y | x), per example."""

    def losses(self, predict: Predict, batch: Batch) -> Tensor:
        """``(n,)``."""
        return F.cross_entropy(predict(batch["x"]), batch["y"], reduction="none")
