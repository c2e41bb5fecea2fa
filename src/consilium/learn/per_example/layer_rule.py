"""Layer rules: how the inputs of one layer and the gradients of its outputs become per-example gradients.

A network is evaluated on rows; each of the n examples (or units) has k = rows / n consecutive ones, mostly k = 1.
All positions of all rows of an example, in all calls of a layer, are positions of that example: a layer called twice,
an objective that evaluates the network twice and a unit of several records are one idea.

Rules register themselves for the layer types that they cover, a user's own too (:func:`register`).  Layers without a
rule use ``vmap``.  A network that uses a rule, torch's or a user's, is proved before its first step (``dispatch``).
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from .layer_gradients import LayerGradients

__all__ = ["LayerCall", "LayerRule", "per_example", "register", "rule_for"]

_Kind = TypeVar("_Kind", bound="type[LayerRule]")
_RULES: dict[type[nn.Module], list[type[LayerRule]]] = {}


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a layer: its arguments, its output gradients, and statistics of its forward pass."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    returned: tuple[Tensor, ...]
    statistics: tuple[Tensor, Tensor] | None = None

    @property
    def output_gradient(self) -> Tensor:
        """The gradient of the output, in its shape ``(rows, ...)``."""
        return self.returned[0]

    @property
    def input(self) -> Tensor:
        """The input ``(rows, ...)``."""
        first: Tensor = self.args[0] if self.args else self.kwargs["input"]
        return first


class LayerRule(ABC):
    """The per-example gradients of one layer.

    ``parameters`` names all that the layer may have; one with others uses ``vmap``.
    """

    parameters: ClassVar[frozenset[str]] = frozenset({"weight", "bias"})

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    @staticmethod
    def covers(layer: nn.Module) -> bool:  # noqa: ARG004 - most rules are exact for every layer of their types
        """Whether this rule is exact for ``layer``, which is of a type that it is registered for."""
        return True

    def edges(self, out: Tensor) -> tuple[GradientEdge, ...]:
        """Where in the graph gradients are needed: behind the output ``out``."""
        return (get_gradient_edge(out),)

    def statistics(self, node: Node) -> tuple[Tensor, Tensor] | None:
        """What the forward pass kept in ``node``, its place in the graph, for :meth:`gradients`; mostly nothing."""
        return None

    @abstractmethod
    def gradients(self, calls: Sequence[LayerCall], n: int) -> LayerGradients:
        """The gradients of ``n`` examples in :meth:`owned`, added over all ``calls`` of the layer in one pass."""

    def owned(self) -> list[nn.Parameter]:
        """The layer's parameters, in the order in which :meth:`gradients` answers."""
        return [p for p in self.layer._parameters.values() if p is not None]


def register(*layers: type[nn.Module]) -> Callable[[_Kind], _Kind]:
    """A class decorator: use this rule for layers of exactly these types, and not of their subclasses.

    The rule registered last is tried first.  Register where the layer's class is defined, so that every process which
    imports the one has the other; a network that has taken a step keeps the rules that it was proved with.

    Guarantee: none of its own.  The proof compares the rule's norms and its weighted sum with autograd's on two random
    examples; clipping bounds an example as far as the rule is right for all others.
    """

    def add(rule: _Kind) -> _Kind:
        for layer in layers:
            _RULES.setdefault(layer, []).insert(0, rule)
        return rule

    return add


def rule_for(layer: nn.Module) -> type[LayerRule] | None:
    """The rule registered for ``layer``; None where there is none, or where hooks or added parameters change it."""
    if layer._forward_pre_hooks or layer._forward_hooks:
        return None
    names = layer._parameters.keys()
    return next((kind for kind in _RULES.get(type(layer), ()) if names <= kind.parameters and kind.covers(layer)), None)


def per_example(values: Sequence[Tensor], n: int) -> Tensor:
    """``(n, size)``: gradients ``(rows, size)`` of every call, added over calls and over the rows of an example."""
    if len(values) == 1 and len(values[0]) == n:
        return values[0]
    return functools.reduce(torch.add, [rows.reshape(n, -1, rows.shape[-1]).sum(1) for rows in values])
