"""A rule turns what one layer saw and what came back to it into per-example gradients.

A network is evaluated on rows; each of the n examples (or units) owns k = rows / n consecutive ones, mostly k = 1.
All positions of all rows of an example, in all uses of a layer, are positions of that example: a layer used twice, an
objective that asks twice and a unit of several records are one idea.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from .pieces import Piece

__all__ = ["Rule", "Use", "per_example"]


@dataclass(frozen=True, eq=False)
class Use:
    """One call of a layer: its arguments, what came back, and what its forward pass kept of statistics."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    returned: tuple[Tensor, ...]
    statistics: tuple[Tensor, Tensor] | None = None

    @property
    def g(self) -> Tensor:
        """The gradient of the output."""
        return self.returned[0]

    @property
    def a(self) -> Tensor:
        """The input, ``(rows, ...)``."""
        found: Tensor = self.args[0] if self.args else self.kwargs["input"]
        return found


class Rule(ABC):
    """The per-example gradients of one layer."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    @staticmethod
    @abstractmethod
    def covers(layer: nn.Module) -> bool:
        """Whether this rule is exact for ``layer``."""

    def edges(self, out: Tensor) -> tuple[GradientEdge, ...]:
        """Where in the graph gradients are wanted: behind the output ``out``."""
        return (get_gradient_edge(out),)

    @abstractmethod
    def piece(self, uses: Sequence[Use], n: int) -> Piece:
        """The gradients of ``n`` examples from all ``uses`` of the layer."""

    def owned(self) -> list[nn.Parameter]:
        """The parameters in the order of the pieces."""
        return [p for p in self.layer._parameters.values() if p is not None]


def per_example(uses: Sequence[Tensor], n: int) -> Tensor:
    """``(n, size)``: gradients ``(rows, size)`` of every use, added over uses and over the rows of an example."""
    if len(uses) == 1 and len(uses[0]) == n:
        return uses[0]
    return functools.reduce(torch.add, [rows.reshape(n, -1, rows.shape[-1]).sum(1) for rows in uses])
