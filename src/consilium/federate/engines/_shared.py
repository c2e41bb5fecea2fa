"""Tensors between two processes of one machine: through memory that both map, not through the pipe.

A message is any tree of dataclasses, mappings and sequences.  ``put`` replaces every tensor by a :class:`Slot` (where
it lies in the arena), ``take`` puts copies back, so what is left for the pipe is small.
"""

from __future__ import annotations

import copy
import math
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["Arena", "Slot"]

_ALIGNED = 64
_LEAVES = frozenset({str, int, float, bool, bytes, type(None)})


@dataclass(frozen=True)
class Slot:
    """A tensor's place in the arena, its type and its shape."""

    at: int
    dtype: torch.dtype
    shape: tuple[int, ...]


class Arena:
    """``size`` bytes of anonymous memory that a forked process shares; pages are used only once written to."""

    def __init__(self, size: int) -> None:
        self._bytes = torch.frombuffer(mmap.mmap(-1, size), dtype=torch.uint8)
        self._used = 0

    def clear(self) -> None:
        """Discard all contents; tensors taken before are copies and remain valid."""
        self._used = 0

    def put(self, message: Any) -> Any:
        """``message`` with slots for tensors; one that finds no room stays in the message and takes the pipe."""
        return _mapped(message, Tensor, self._put)

    def take(self, message: Any) -> Any:
        """``message`` with copies of the tensors for slots."""
        return _mapped(message, Slot, self._take)

    def _put(self, tensor: Tensor) -> Slot | Tensor:
        plain = tensor.detach().contiguous()
        size, at = plain.numel() * plain.element_size(), -(-self._used // _ALIGNED) * _ALIGNED
        if at + size > len(self._bytes):
            return plain.clone()
        self._used = at + size
        slot = Slot(at, plain.dtype, tuple(plain.shape))
        self._view(slot).copy_(plain)
        return slot

    def _take(self, slot: Slot) -> Tensor:
        return self._view(slot).clone()

    def _view(self, slot: Slot) -> Tensor:
        count = math.prod(slot.shape)
        piece = self._bytes[slot.at : slot.at + count * slot.dtype.itemsize]
        return piece.view(slot.dtype).view(slot.shape)


def _mapped(node: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """``node`` with ``change`` applied to every instance of ``kind`` in it; what holds none is passed on as it is."""
    if isinstance(node, kind):
        return change(node)
    if type(node) in _LEAVES:
        return node
    if isinstance(node, Mapping):
        return {key: _mapped(value, kind, change) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_mapped(value, kind, change) for value in node)
    names = _field_names(type(node))  # type: ignore[arg-type]
    before = [getattr(node, name) for name in names]
    after = [_mapped(value, kind, change) for value in before]
    if all(new is old for new, old in zip(after, before, strict=True)):
        return node
    clone = copy.copy(node)
    for name, value in zip(names, after, strict=True):
        object.__setattr__(clone, name, value)
    return clone


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass; none of anything else, nor of a slot, which is a leaf."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) and kind is not Slot else ()
