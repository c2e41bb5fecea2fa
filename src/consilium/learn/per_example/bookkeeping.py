"""Book-keeping: a live module whose layers write down what went in, and are told what came back.

One forward pass; one backward pass to the outputs of the layers, in which autograd forms no weight gradient; the rules
do the rest.  An output is remembered as an edge of the graph, so what is done to it in place afterwards does no harm;
an INPUT that is changed in place afterwards is refused by name.

Source: Bu et al. 2023, arXiv 2210.00038
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from consilium.core.errors import Refused
from consilium.core.gradient import Batch, Objective, Predict
from consilium.core.network import Network
from consilium.core.workspace import Workspace

from .alone import losses_alone
from .any_module import AnyModuleRule
from .attention import TakenApart, taken_apart
from .convolution import ConvolutionRule
from .depthwise import DepthwiseRule
from .embedding import EmbeddingRule
from .leaves import Entry, Leaves
from .linear import LinearRule
from .normalisation import GroupNormRule, InstanceNormRule, LayerNormRule, kept_statistics
from .pieces import Formed, Piece
from .rule import Rule, Use
from .units import Part

__all__ = ["BookKeeping", "rules_of"]

_RULES: tuple[type[Rule], ...] = (
    LinearRule, DepthwiseRule, ConvolutionRule, GroupNormRule, InstanceNormRule, LayerNormRule, EmbeddingRule,
)  # fmt: skip
_BUDGET = 256 * 2**20
"""Bytes of inputs and gradients written down at once."""


class BookKeeping:
    """One network's live module, its rules and what the last forward pass wrote down."""

    def __init__(self, network: Network) -> None:
        self.workspace = Workspace(taken_apart(network.template), network.compute)
        self.leaves = Leaves.of(network.template, self.workspace.leaves)
        self.rules = rules_of(self.workspace.module)
        number = {id(p): i for i, p in enumerate(self.workspace.leaves)}
        self.numbers = [tuple(number[id(p)] for p in rule.owned()) for rule in self.rules]
        self.shared = _several(self.numbers)
        self.each = 1
        """Bytes that one example takes; the proof on two examples measures it."""
        self._calls: list[_Call] | None = None
        self._written = 0
        for i, rule in enumerate(self.rules):
            rule.layer.register_forward_hook(functools.partial(self._write_down, i), with_kwargs=True)

    @property
    def by_vmap(self) -> list[str]:
        """Names of the modules that no rule of their own covers."""
        named = {id(module): name for name, module in self.workspace.module.named_modules()}
        return [named[id(rule.layer)] for rule in self.rules if isinstance(rule, AnyModuleRule)]

    def fitting(self, batch: Batch) -> int:
        """How many examples fit the budget."""
        return max(1, _BUDGET // self.each)

    def entries(self, params: Tensor, buffers: Tensor, objective: Objective, part: Part) -> list[Entry]:
        """The gradients of ``part`` by layer."""

        def total(predict: Predict) -> Tensor:
            losses = losses_alone(objective, predict, part.batch)
            return losses.sum() if part.share is None else losses @ part.share.to(losses.dtype)

        return self.entries_of(params, buffers, total, part.n)[0]

    def entries_of(
        self, params: Tensor, buffers: Tensor, total: Callable[[Predict], Tensor], n: int, keep: bool = False
    ) -> tuple[list[Entry], Tensor]:
        """The gradients by layer of ``n`` examples whose losses ``total`` adds, and the sum (its graph if ``keep``)."""
        self.workspace.load(params, buffers, training=True)
        calls: list[_Call] = []
        self._calls = calls
        try:
            loss = total(self.workspace.predict)
        finally:
            self._calls = None
        edges = [edge for call in calls for edge in call.edges]
        found = torch.autograd.grad(loss, edges, allow_unused=True, retain_graph=keep) if loss.requires_grad else ()
        self._written = sum(_bytes(call.args) for call in calls) + sum(_bytes((g,)) for g in found)
        uses: list[list[Use]] = [[] for _ in self.rules]
        rest = iter(found)
        for call in calls:
            returned = tuple(g for g in itertools.islice(rest, len(call.edges)) if g is not None)
            if returned:
                uses[call.rule].append(call.use(returned, n))
        with torch.no_grad():
            pieces = [rule.piece(u, n) if u else None for rule, u in zip(self.rules, uses, strict=True)]
            return self._sorted(pieces), loss

    def measure(self, entries: list[Entry]) -> None:
        """Learn from two examples how many bytes one takes."""
        self.each = max(1, self._written // 2 + sum(entry.piece.held() for entry in entries) // 2)

    def _sorted(self, pieces: list[Piece | None]) -> list[Entry]:
        """Entries in which every parameter stands once: what several layers share is formed and added."""
        entries: list[Entry] = []
        joint: dict[int, Tensor] = {}
        for numbers, piece in zip(self.numbers, pieces, strict=True):
            if piece is not None and self.shared.isdisjoint(numbers):
                entries.append(Entry(numbers, piece))
            elif piece is not None:
                for number, g in zip(numbers, piece.formed(), strict=True):
                    joint[number] = joint[number] + g if number in joint else g
        return [*entries, Entry(tuple(joint), Formed(list(joint.values())))] if joint else entries

    def _write_down(
        self, rule: int, layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any
    ) -> None:
        if self._calls is None:
            return
        if not isinstance(out, Tensor):
            raise Refused(f"{type(layer).__name__} answers with no tensor, so it has no per-example gradient here")
        if out.requires_grad:
            self._calls.append(_Call.of(rule, layer, self.rules[rule].edges(out), args, kwargs))


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a layer: its inputs, with how often they had been changed, and where gradients are wanted."""

    rule: int
    layer: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    edges: tuple[GradientEdge, ...]
    versions: list[int]
    statistics: tuple[Tensor, Tensor] | None

    @staticmethod
    def of(
        rule: int, layer: nn.Module, edges: tuple[GradientEdge, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> _Call:
        """As the layer returns."""
        args, kwargs = tuple(_bare(v) for v in args), {name: _bare(v) for name, v in kwargs.items()}
        known = kept_statistics(layer, edges[0].node)
        return _Call(rule, layer, args, kwargs, edges, _versions(args, kwargs), known)

    def use(self, returned: tuple[Tensor, ...], n: int) -> Use:
        """With the gradients that came back, for ``n`` examples."""
        where = type(self.layer).__name__
        if _versions(self.args, self.kwargs) != self.versions:
            raise Refused(f"the input of {where} is changed in place after it", remedy="use an operation that is not")
        if any(g.dim() == 0 or len(g) % n for g in returned):
            raise Refused(f"{where} does not have the examples as its first dimension, as it had in the proof")
        return Use(self.args, self.kwargs, returned, self.statistics)


def rules_of(module: nn.Module) -> list[Rule]:
    """A rule for every layer with parameters; a module that none covers takes what is below it along."""
    found: list[Rule] = []
    taken: set[nn.Module] = set()
    for layer in module.modules():
        if isinstance(layer, TakenApart):
            taken |= {layer.weights, layer.biases}
        elif layer not in taken and any(p is not None for p in layer._parameters.values()):
            rule = next((kind for kind in _RULES if kind.covers(layer) and _ordinary(layer)), AnyModuleRule)
            found.append(rule(layer))
            if rule is AnyModuleRule:
                taken |= set(layer.modules())
    return found


def _ordinary(layer: nn.Module) -> bool:
    """Whether the layer is as torch made it: no hooks that change what it sees, no parameters put on top."""
    hooks = layer._forward_pre_hooks or layer._forward_hooks
    return not hooks and layer._parameters.keys() <= {"weight", "bias"}


def _several(numbers: list[tuple[int, ...]]) -> frozenset[int]:
    """Those that stand in more than one layer."""
    everywhere = [number for own in numbers for number in own]
    return frozenset(number for number in everywhere if everywhere.count(number) > 1)


def _bare(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _versions(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[int]:
    return [v._version for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]


def _bytes(values: tuple[Any, ...]) -> int:
    return sum(v.numel() * v.element_size() for v in values if isinstance(v, Tensor))
