"""Arithmetic on the payloads of many updates: whether they are alike, weighted sums, coordinates in blocks.

A block holds some coordinates of all updates, so that what a rule needs beside the updates does not grow with the
model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.update import Payload, Update

__all__ = ["DELTA", "blocks", "by_coordinate", "check_alike", "combined", "is_finite", "vectors", "weighted_sum"]

DELTA = "delta"
"""The part of a payload by which updates are compared: the change of the parameters."""

_BLOCK = 1 << 15
"""Coordinates of a block: 13 MB of a hundred updates."""


def check_alike(updates: Sequence[Update]) -> None:
    """Refuse updates of different form, by site.

    Raises Refused: a payload differs in names or shapes from the first, or has no change of the parameters.
    """
    first = _form(updates[0])
    if DELTA not in first:
        raise Refused(f"its payload has no {DELTA} to compare it by", where=updates[0].site)
    for update in updates:
        if _form(update) != first:
            raise Refused(f"its payload differs from that of {updates[0].site}", where=update.site)


def _form(update: Update) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in update.payload.items()}


def is_finite(update: Update) -> bool:
    """Whether every number of ``update`` is, in one pass: the extremes of what holds a NaN are NaN."""
    return all(
        bool(extreme.isfinite()) for tensor in update.payload.values() if tensor.numel() for extreme in tensor.aminmax()
    )


def vectors(updates: Sequence[Update], name: str = DELTA) -> list[Tensor]:
    """The part ``name`` of each update."""
    return [update.payload[name] for update in updates]


def weighted_sum(tensors: Sequence[Tensor], factors: Tensor) -> Tensor:
    """sum_k f_k t_k of ``factors (n,)`` in the order of ``tensors``; one alone with factor 1 keeps its bits."""
    total = torch.zeros_like(tensors[0])
    for tensor, factor in zip(tensors, factors.tolist(), strict=True):
        if factor:
            total.add_(tensor, alpha=factor)
    return total


def blocks(tensors: Sequence[Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """The coordinates of flat ``tensors`` of one shape: a range of them and their values ``(n, block)``, in order."""
    flat = [tensor.reshape(-1) for tensor in tensors]
    for start in range(0, flat[0].numel(), _BLOCK):
        here = slice(start, start + _BLOCK)
        yield here, torch.stack([tensor[here] for tensor in flat])


def by_coordinate(updates: Sequence[Update], name: str, rule: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``rule``, from ``(n, block)`` to ``(block,)``, makes of each coordinate of the part ``name``."""
    merged = torch.empty_like(updates[0].payload[name])
    for here, block in blocks(vectors(updates, name)):
        merged.reshape(-1)[here] = rule(block)
    return merged


def combined(updates: Sequence[Update], factors: Tensor) -> Payload:
    """The weighted sum of every part of the payload by the same ``factors (n,)``."""
    return {name: weighted_sum(vectors(updates, name), factors) for name in updates[0].payload}
