"""Book-keeping: forward hooks record the inputs of the layers; one backward pass gives the gradients of their outputs.

Autograd forms no weight gradient on the way: the rules of the layers make norms and weighted sums of what was recorded.
An output is kept as an edge of the graph, so what is done to it in place afterwards does no harm; an INPUT that is
changed in place afterwards is refused by name.

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

from .layer_gradients import FormedGradients, LayerGradients
from .layer_rule import LayerCall, LayerRule, rule_for
from .layers import convolution, depthwise, embedding, linear, normalisation  # noqa: F401 - they register rules
from .layers.any_module import AnyModuleRule
from .layers.attention import TakenApart, taken_apart
from .leaves import Leaves, ParameterGradients
from .per_example_loss import per_example_losses
from .units import Part

__all__ = ["BookKeeping", "rules_of"]

_BUILT_IN = __name__.rpartition(".")[0] + "."
_BUDGET = 256 * 2**20
"""Bytes of inputs and gradients written down at once."""


class BookKeeping:
    """One network's live module, its rules and what the last forward pass recorded.

    With ``outside`` False, layers whose rules were registered from outside this package go by ``vmap``.
    """

    def __init__(self, network: Network, outside: bool = True) -> None:
        self.workspace = Workspace(taken_apart(network.template), network.compute)
        self.leaves = Leaves.of(network, self.workspace.leaves)
        self.rules = rules_of(self.workspace.module, outside)
        number = {id(p): i for i, p in enumerate(self.workspace.leaves)}
        self.numbers = [tuple(number[id(p)] for p in rule.owned()) for rule in self.rules]
        self.shared = _several(self.numbers)
        self.each = 1
        """Bytes that one example takes; the proof on two examples measures it."""
        self._calls: list[_RecordedCall] | None = None
        self._recorded = 0
        for i, rule in enumerate(self.rules):
            rule.layer.register_forward_hook(functools.partial(self._record, i), with_kwargs=True)

    @property
    def by_vmap(self) -> list[str]:
        """Names of the modules without a rule of their own."""
        named = {id(module): name for name, module in self.workspace.module.named_modules()}
        return [named[id(rule.layer)] for rule in self.rules if isinstance(rule, AnyModuleRule)]

    @property
    def outside(self) -> list[str]:
        """The rules that were registered from outside, each with the name of its layer."""
        named = {id(module): name or "the model" for name, module in self.workspace.module.named_modules()}
        return [f"{type(rule).__name__} of {named[id(rule.layer)]}" for rule in self.rules if _is_outside(type(rule))]

    def fitting(self, batch: Batch) -> int:
        """How many examples fit the budget."""
        return max(1, _BUDGET // self.each)

    def entries(self, params: Tensor, buffers: Tensor, objective: Objective, part: Part) -> list[ParameterGradients]:
        """The gradients of ``part`` by layer."""

        def total(predict: Predict) -> Tensor:
            losses = per_example_losses(objective, predict, part.batch)
            return losses.sum() if part.share is None else losses @ part.share.to(losses.dtype)

        return self.entries_of(params, buffers, total, part.n)[0]

    def entries_of(
        self, params: Tensor, buffers: Tensor, total: Callable[[Predict], Tensor], n: int, keep: bool = False
    ) -> tuple[list[ParameterGradients], Tensor]:
        """The gradients by layer of ``n`` examples whose losses ``total`` adds, and the sum (its graph if ``keep``)."""
        self.workspace.load(params, buffers, training=True)
        calls: list[_RecordedCall] = []
        self._calls = calls
        try:
            loss = total(self.workspace.predict)
        finally:
            self._calls = None
        edges = [edge for call in calls for edge in call.edges]
        gradients = torch.autograd.grad(loss, edges, allow_unused=True, retain_graph=keep) if loss.requires_grad else ()
        self._recorded = sum(_bytes(call.args) for call in calls) + sum(_bytes((g,)) for g in gradients)
        by_rule: list[list[LayerCall]] = [[] for _ in self.rules]
        rest = iter(gradients)
        for call in calls:
            returned = tuple(g for g in itertools.islice(rest, len(call.edges)) if g is not None)
            if returned:
                by_rule[call.number].append(call.answered(returned, n))
        with torch.no_grad():
            by_layer = [
                rule.gradients(layer_calls, n) if layer_calls else None
                for rule, layer_calls in zip(self.rules, by_rule, strict=True)
            ]
            return self._sorted(by_layer), loss

    def measure(self, entries: list[ParameterGradients]) -> None:
        """Learn from two examples how many bytes one takes."""
        self.each = max(1, self._recorded // 2 + sum(entry.gradients.held() for entry in entries) // 2)

    def _sorted(self, by_layer: list[LayerGradients | None]) -> list[ParameterGradients]:
        """Entries with every parameter once: gradients of shared parameters are formed and added."""
        entries: list[ParameterGradients] = []
        joint: dict[int, Tensor] = {}
        for numbers, gradients in zip(self.numbers, by_layer, strict=True):
            if gradients is not None and self.shared.isdisjoint(numbers):
                entries.append(ParameterGradients(numbers, gradients))
            elif gradients is not None:
                for number, g in zip(numbers, gradients.formed(), strict=True):
                    joint[number] = joint[number] + g if number in joint else g
        return [*entries, ParameterGradients(tuple(joint), FormedGradients(list(joint.values())))] if joint else entries

    def _record(
        self, number: int, layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any
    ) -> None:
        if self._calls is None:
            return
        if not isinstance(out, Tensor):
            raise Refused(f"{type(layer).__name__} answers with no tensor, so it has no per-example gradient here")
        if out.requires_grad:
            self._calls.append(_RecordedCall.of(number, self.rules[number], out, args, kwargs))


@dataclass(frozen=True, eq=False)
class _RecordedCall:
    """One call of a layer: its inputs, with their version counters, and the points where gradients are needed."""

    number: int
    layer: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    edges: tuple[GradientEdge, ...]
    versions: list[int]
    statistics: tuple[Tensor, Tensor] | None

    @staticmethod
    def of(
        number: int, rule: LayerRule, out: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> _RecordedCall:
        """As the layer of ``rule``, the one with this ``number``, returns ``out``."""
        args, kwargs = tuple(_bare(v) for v in args), {name: _bare(v) for name, v in kwargs.items()}
        edges = rule.edges(out)
        statistics = rule.statistics(edges[0].node)
        return _RecordedCall(number, rule.layer, args, kwargs, edges, _versions(args, kwargs), statistics)

    def answered(self, returned: tuple[Tensor, ...], n: int) -> LayerCall:
        """The call with its output gradients, for ``n`` examples."""
        where = type(self.layer).__name__
        if _versions(self.args, self.kwargs) != self.versions:
            raise Refused(f"the input of {where} is changed in place after it", remedy="use an operation that is not")
        if any(g.dim() == 0 or len(g) % n for g in returned):
            raise Refused(f"{where} does not have the examples as its first dimension, as it had in the proof")
        return LayerCall(self.args, self.kwargs, returned, self.statistics)


def rules_of(module: nn.Module, outside: bool = True) -> list[LayerRule]:
    """A rule for every layer with trained parameters; a module that none covers takes what is below it along."""
    rules: list[LayerRule] = []
    modules: set[nn.Module] = set()
    for layer in module.modules():
        if isinstance(layer, TakenApart):
            modules |= {layer.weights, layer.biases}
        elif layer not in modules and any(p is not None and p.requires_grad for p in layer._parameters.values()):
            kind = rule_for(layer)
            if kind is None or (_is_outside(kind) and not outside):
                kind = AnyModuleRule
                modules |= set(layer.modules())
            rules.append(kind(layer))
    return rules


def _is_outside(kind: type[LayerRule]) -> bool:
    return not kind.__module__.startswith(_BUILT_IN)


def _several(numbers: list[tuple[int, ...]]) -> frozenset[int]:
    """Those that stand in more than one layer."""
    everywhere = [number for group in numbers for number in group]
    return frozenset(number for number in everywhere if everywhere.count(number) > 1)


def _bare(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _versions(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[int]:
    return [v._version for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]


def _bytes(values: tuple[Any, ...]) -> int:
    return sum(v.numel() * v.element_size() for v in values if isinstance(v, Tensor))
