"""The log-likelihood of a record's label under a model's answers: log p(y | x) = -CE.

Probabilities are computed from the answered logits; one that was rounded to 0 is set to the floor, the log of the
smallest float32 (about -87), so that every value is finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from consilium.core.task import Task

__all__ = ["FLOOR", "log_likelihoods"]

FLOOR = math.log(torch.finfo(torch.float32).tiny)
_BATCH = 512


def log_likelihoods(
    answer: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, task: Task, batch: int = _BATCH
) -> Tensor:
    """``(n,)`` float64 on the CPU: minus the task's loss of one answer for each of ``x (n, *shape)``, labels ``y``."""
    with torch.no_grad():
        parts = [
            -task.losses(answer(x[at : at + batch]).double(), y[at : at + batch])
            for at in range(0, max(1, len(x)), batch)
        ]
    return torch.nan_to_num(torch.cat(parts), nan=FLOOR).clamp_min(FLOOR).cpu()
