"""What the server takes for an update: its sender, weight, names, types, shapes and numbers, then its server halves.

An update is refused by name, with what is wrong with it, and the round goes on without it.  A codec's message is read
by its server half, which checks the types of its parts; the steps after it read plain vectors of the model's own
type.  So no sender decides in which precision others are merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.core.defence import UpdateDefence
from consilium.core.errors import Refused
from consilium.core.update import Update

from .soundness import LONGEST, length

__all__ = ["Expected", "admitted"]

_CODED = ("compress", "mask")


@dataclass(frozen=True, eq=False)
class Expected:
    """Names and shapes of what an update must hold, no more and no less, each of ``dtype``."""

    shapes: Mapping[str, tuple[int, ...]]
    dtype: torch.dtype

    def check(self, update: Update) -> None:
        """Refuse an update that holds anything else.

        Raises Refused: a tensor is missing or unknown, or has another shape or type.
        """
        for name, shape in self.shapes.items():
            if name not in update.payload or tuple(update.payload[name].shape) != tuple(shape):
                raise Refused(f"{name} has not the shape {tuple(shape)}")
            if update.payload[name].dtype != self.dtype:
                raise Refused(f"{name} is of {_name(update.payload[name].dtype)}, not of {_name(self.dtype)}")
        unknown = sorted(update.payload.keys() - self.shapes.keys())
        if unknown:
            raise Refused(f"contains {unknown[0]!r}, which the server did not request")


def admitted(update: Update, defences: Sequence[UpdateDefence], expected: Expected) -> Update:
    """What the server halves make of an update; refused where it is not what was ``expected``.

    Raises Refused: the update is not as ``expected``, not finite, or too long for float32.
    """
    for defence in reversed(defences):
        if defence.stage not in _CODED:
            expected.check(update)
        update = defence.enforce(update, expected.shapes)
    expected.check(update)
    for name, tensor in update.payload.items():
        if not _finite(tensor):
            raise Refused("not finite")
        if not _measurable(tensor):
            raise Refused(f"{name} is {length(tensor):.3g} long, and float32 has no square of that")
    return update


def _finite(tensor: Tensor) -> bool:
    """In one pass without a copy: the extremes of what holds a NaN are NaN."""
    return not tensor.numel() or all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def _measurable(tensor: Tensor) -> bool:
    """Whether float32 holds the square of its length: decided by the extremes, except for those near the limit."""
    if not tensor.numel():
        return True
    extreme = max(abs(float(end)) for end in tensor.aminmax())
    return extreme < LONGEST / math.sqrt(tensor.numel()) or length(tensor) < LONGEST


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
