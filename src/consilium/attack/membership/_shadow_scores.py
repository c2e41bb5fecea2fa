"""What attacks by shadow models share: log-probabilities in batches, and the shadows' answers with their members.

The logit-scaled confidence  phi = log p_y - log(1 - p_y) = z_y - log sum_{j != y} exp z_j  is close to normal over
trainings, which log p_y is not.  It is clamped, so that a probability that was rounded to 0 or 1 is finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from consilium.core.entry import check
from consilium.core.records import Records
from consilium.core.task import Task

from ._likelihood import log_likelihoods

__all__ = ["check_shadows", "confidences", "likelihoods", "log_probabilities", "right_answers"]

_BATCH = 2048
_FLOOR = -math.log(torch.finfo(torch.float32).tiny)


def log_probabilities(answer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``(n, classes)`` float64 on the CPU; no lower than about -87."""
    with torch.no_grad():
        parts = [torch.log_softmax(answer(rows).double(), dim=1).cpu() for rows in _batches(x)]
    return torch.nan_to_num(torch.cat(parts), nan=-_FLOOR).clamp_min(-_FLOOR)


def right_answers(answer: Callable[[Tensor], Tensor], records: Records, task: Task) -> Tensor:
    """Which of ``records`` are answered rightly, bool ``(n,)`` on the CPU."""
    with torch.no_grad():
        parts = [
            task.right(answer(records.x[first : first + _BATCH]), records.y[first : first + _BATCH]).cpu()
            for first in range(0, max(1, len(records)), _BATCH)
        ]
    return torch.cat(parts)


def likelihoods(answer: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, task: Task) -> Tensor:
    """log p of the labels ``y`` for inputs ``x``, ``(n,)`` float64 on the CPU, in batches as all shadows are asked."""
    return log_likelihoods(answer, x, y, task, _BATCH)


def confidences(answer: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, task: Task) -> Tensor:
    """phi ``(n,)`` of the answers on inputs ``x`` with labels ``y``, within about 87 of 0.

    Where the task has no classes, p is exp(-loss), so that phi = -log(exp(loss) - 1).
    """
    if task.exclusive:
        return _confidence(log_probabilities(answer, x), y)
    log_p = likelihoods(answer, x, y, task)
    return (log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-12)))).clamp(-_FLOOR, _FLOOR)


def _confidence(log_p: Tensor, y: Tensor) -> Tensor:
    """phi ``(n,)`` of log-probabilities ``(n, classes)``."""
    target = log_p.gather(1, y[:, None])[:, 0]
    rest = log_p.scatter(1, y[:, None], -math.inf).logsumexp(1)
    return (target - rest).clamp(-_FLOOR, _FLOOR)


def check_shadows(count: int) -> None:
    """Refuse so few shadows that a record may be in none of them, or in all."""
    check(2 <= count <= 4096, "shadows", count, "2 to 4096 shadows")


def _batches(x: Tensor) -> Iterator[Tensor]:
    return (x[first : first + _BATCH] for first in range(0, max(1, len(x)), _BATCH))
