"""As many channels pruned, in a stated order, as public records allow: their accuracy falls by ``max_fall`` at most.

The number is found by bisection: so many fall within it, and one more does not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from consilium.core.records import Records
from consilium.core.task import Task

from ._channels import Channels, silenced

__all__ = ["Place", "pruned_within"]

_BATCH = 256
Place = tuple[Channels, int]
"""A layer, and the number of one of its channels."""


def pruned_within(
    module: nn.Module, order: Sequence[Place], public: Records, task: Task, max_fall: float, shifts: bool = True
) -> tuple[nn.Module, dict[str, Tensor]]:
    """A copy of ``module`` with the first channels of ``order`` set to 0, and where its parameters were left, by name.

    Without ``shifts`` a channel's bias stays: it becomes that constant.
    """
    least = _accuracy(module, public, task) - max_fall - 1e-9
    count = _most(len(order), lambda n: _accuracy(_pruned(module, order[:n], shifts)[0], public, task) >= least)
    return _pruned(module, order[:count], shifts)


def _pruned(module: nn.Module, places: Sequence[Place], shifts: bool) -> tuple[nn.Module, dict[str, Tensor]]:
    pruned = copy.deepcopy(module).eval().requires_grad_(False)
    trainable: dict[str, Tensor] = {}
    for channels in dict.fromkeys(channels for channels, _ in places):
        gone = torch.zeros(channels.count, dtype=torch.bool)
        gone[[k for of, k in places if of == channels]] = True
        trainable |= silenced(pruned, channels, gone, shifts)
    return pruned, trainable


@torch.no_grad()
def _accuracy(module: nn.Module, records: Records, task: Task) -> float:
    """The share of ``records`` that are answered right."""
    pairs = zip(torch.split(records.x, _BATCH), torch.split(records.y, _BATCH), strict=True)
    return sum(int(task.right(module(x), y).sum()) for x, y in pairs) / len(records)


def _most(limit: int, allowed: Callable[[int], bool]) -> int:
    """An n up to ``limit`` that is ``allowed`` where n + 1 is not; 0 always is."""
    low, high = 0, limit + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if allowed(middle) else (low, middle)
    return low
