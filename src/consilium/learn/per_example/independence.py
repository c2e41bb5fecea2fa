"""Whether a record's answer and gradient depend on no other record, in training mode and in batches of many sizes.

    f(batch)_i = f(x_i)                         the answer of a record
    d<f(batch), c> = sum_i d<f(x_i), c_i>       the gradient in the inputs and in the parameters, for random c

A test, not a proof: code that mixes records at one size alone, or for one rare value alone, passes it where neither is
met.  Nothing of torch's own layers does so; for custom code :mod:`.witness` repeats the comparison on the batches of
the training itself.  One record at a time (``by_vmap``, ``one_by_one``) needs no test: there is no other record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode

from consilium.core.inputs import random_inputs
from consilium.core.network import Network
from consilium.core.random import Stream, scoped

from .undrawn import Undrawn

__all__ = ["PROOF_SIZES", "TRAINING_SIZES", "custom_backward", "dependence", "outlying", "varied"]

TRAINING_SIZES = (2, 3, 5, 8, 9, 16, 17, 32, 33, 64, 65, 100, 128, 129, 256, 257, 512, 513)
"""At the plan: powers of two, beyond which code is likely to change, and their neighbours."""
PROOF_SIZES = (2, 3, 5, 9, 17, 33, 65)
_RECORDS = 8
_PROJECTIONS = 4
_SLACK = 1e-2
"""Of the gradient's norm: rounding, where a GPU's convolutions keep ten bits and a user's bfloat16 keeps eight."""


def varied(shape: Sequence[int], count: int = _RECORDS, like: Tensor | None = None, tokens: int = 0) -> Tensor:
    """``count`` random inputs in [0, 1]: dark, even and bright ones, one nearly white; drawn from torch's generator.

    Or ids below ``tokens``, where that is not 0.
    """
    like = torch.empty(0) if like is None else like
    if tokens:
        return random_inputs(count, shape, tokens, device=like.device)
    x = torch.rand(count, *shape, device=like.device, dtype=like.dtype)
    power = (torch.arange(count, device=x.device) % 4 + 1).view(-1, *(1 for _ in shape)).to(x.dtype)
    x = torch.where(power % 2 == 0, x**power, 1 - x ** (power + 1))
    x[-1] = 0.95 + 0.05 * x[-1]
    return x


def outlying(shape: Sequence[int], count: int = _RECORDS, like: Tensor | None = None, tokens: int = 0) -> Tensor:
    """``count`` dark random inputs, the last with a single white value, which differs from every batch.

    Or ids of the first half of ``tokens``, the last with a single one of the others.
    """
    if tokens:
        ids = varied(shape, count, like, max(2, tokens // 2))
        ids[-1, 0] = tokens - 1
        return ids
    x = 0.05 * varied(shape, count, like)
    x[-1].view(-1)[0] = 1
    return x


def dependence(
    network: Network, params: Tensor, buffers: Tensor, x: Tensor, sizes: Sequence[int] = PROOF_SIZES
) -> str | None:
    """How something of the records ``x (k, *shape)`` depends on the others of its batch; None if nothing does.

    At ``params (d,)`` and ``buffers (b,)``, in training mode, in batches of all ``sizes``.
    """
    test = _Test(network, params.detach(), buffers.detach(), x.detach())
    with torch.enable_grad():
        test = test.finite()
        if not len(test.x):
            return None
        for size in sizes:
            if test.draws and test.swapped(size):
                return f"in batches of {size} an answer depends on the other examples, or on its place among them"
            if test.steady and (odd := test.apart(size)):
                return f"in batches of {size} {odd}"
    return None


@dataclass(frozen=True, eq=False)
class _Test:
    """Records, and what is measured of them alone."""

    network: Network
    params: Tensor
    buffers: Tensor
    x: Tensor

    def finite(self) -> _Test:
        """Of records with a finite gradient only: others add nothing to a clipped sum."""
        answers, moved, _, norms = self._alone
        sound = norms.isfinite() & answers.isfinite().flatten(1).all(1) & moved.isfinite().all(1)
        return self if bool(sound.all()) else replace(self, x=self.x[sound])

    @cached_property
    def draws(self) -> bool:
        """Whether two seeds give two answers."""
        return not _same(*(self._answers(self.x, seed) for seed in (0, 1)))

    @cached_property
    def steady(self) -> bool:
        """Whether they give the same without draws."""
        if not self.draws:
            return True
        with Undrawn():
            return _same(*(self._answers(self.x, seed) for seed in (0, 1)))

    def swapped(self, size: int) -> bool:
        """Whether, with the same draws, half of a batch is answered otherwise when the other half is exchanged."""
        rows = torch.arange(size) % len(self.x)
        first, half = self._answers(self.x[rows]), torch.arange(size) < size // 2
        for stay in (half, ~half):
            other = self._answers(self.x[torch.where(stay, rows, (rows + 1 + size // 2) % len(self.x))])
            if not _same(first[stay], other[stay]):
                return True
        return False

    def apart(self, size: int) -> str | None:
        """What departs in a batch of ``size`` from what the same records are alone."""
        rows = torch.arange(size) % len(self.x)
        weights = (torch.rand(size, device=self.x.device) + 0.5).to(self.params.dtype)
        weights[1::2] *= -1
        answers, moved, projected, _ = self._measured(rows, weights)
        if not _same(answers, self._alone[0][rows]):
            return "an answer depends on the other examples, or on its place among them"
        share = torch.zeros(len(self.x), device=self.x.device, dtype=weights.dtype)
        share = share.index_add(0, rows.to(share.device), weights)
        expected = self._alone[1][rows] * weights[:, None]
        if _far(moved, expected, torch.linalg.vector_norm(expected, dim=1).max()):
            return "the gradient of an example's loss depends on the other examples"
        norms = torch.linalg.vector_norm(share * self._alone[3])
        if _far(projected, share @ self._alone[2], 4 * norms):
            return "the gradient of the parameters is not the sum of the examples' gradients"
        return None

    @cached_property
    def _alone(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of each record: answer, gradient in the input, projections of the gradient in the parameters, its norm."""
        one = torch.ones(1, device=self.x.device, dtype=self.params.dtype)
        parts = [self._measured(torch.tensor([i]), one) for i in range(len(self.x))]
        answers, moved, projected, norms = zip(*parts, strict=True)
        return torch.cat(answers), torch.cat(moved), torch.stack(projected), torch.stack(norms)

    def _measured(self, rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Answers ``(n, c)``, input gradients ``(n, m)``, projections ``(4,)`` and norm of the parameters' gradient."""
        named = {name: p.clone().requires_grad_() for name, p in self.network.parameters_at(self.params).items()}
        x = self.x[rows].requires_grad_(self.x.is_floating_point())
        with scoped(Stream(0, ("independence",))), Undrawn():
            answers = self.network.logits_at({**named, **self._fixed()}, x, training=True).flatten(1)
        leaves = [*named.values(), *([x] if x.requires_grad else [])]
        total = (answers * self._directions(answers)[rows] * weights[:, None]).sum()
        gradients = _gradients(total, leaves)
        flat = torch.cat([g.reshape(-1) for g in gradients[: len(named)]])
        moved = gradients[-1].flatten(1) if x.requires_grad else answers.new_zeros(len(rows), 1)
        return answers.detach(), moved, self._onto @ flat, torch.linalg.vector_norm(flat)

    def _fixed(self) -> Mapping[str, Tensor]:
        return self.network.buffers_at(self.buffers.clone())

    @cached_property
    def _onto(self) -> Tensor:
        return torch.randn(_PROJECTIONS, len(self.params), device=self.params.device, dtype=self.params.dtype)

    def _directions(self, answers: Tensor) -> Tensor:
        generator = Stream(0, ("independence", "directions")).generator()
        directions = torch.randn(len(self.x), *answers.shape[1:], generator=generator)
        return directions.to(answers.device, answers.dtype)

    def _answers(self, x: Tensor, seed: int = 0) -> Tensor:
        with scoped(Stream(seed, ("independence",))), torch.no_grad():
            return self.network.logits(self.params, self.buffers.clone(), x, training=True)


def custom_backward(network: Network, params: Tensor, buffers: Tensor, x: Tensor) -> str | None:
    """The first hook on a gradient, or backward pass in Python, that ``x`` passes in training mode; else None."""
    named = {name: p.detach().clone().requires_grad_() for name, p in network.parameters_at(params).items()}
    with torch.enable_grad(), _Hooks() as hooks:
        answers = network.logits_at({**named, **network.buffers_at(buffers.clone())}, x, training=True)
    if hooks.names:
        return f"forward hangs a hook on a gradient ({hooks.names[0]})"
    custom = next((node for node in _nodes(answers.grad_fn) if isinstance(node, BackwardCFunction)), None)
    return (
        None if custom is None else f"{type(custom).__name__.removesuffix('Backward')} has a backward pass of its own"
    )


class _Hooks(TorchFunctionMode):
    """Takes down which hooks are hung on tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The result of ``func``."""
        name = getattr(func, "__name__", "")
        if name in {"register_hook", "register_post_accumulate_grad_hook"}:
            self.names.append(f"Tensor.{name}")
        return func(*args, **(kwargs or {}))


def _nodes(end: object) -> Iterator[object]:
    """Every node of the graph that ends there."""
    waiting, known = [end], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in known:
            known.add(node)
            yield node
            waiting.extend(before for before, _ in node.next_functions)  # type: ignore[attr-defined]


def _gradients(total: Tensor, leaves: list[Tensor]) -> Sequence[Tensor]:
    if not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True)


def _far(one: Tensor, other: Tensor, scale: Tensor) -> bool:
    """NaN on both sides is the same."""
    off = torch.where(one.isnan() & other.isnan(), 0, (one - other).abs())
    return bool((off > _SLACK * scale.nan_to_num() + 1e-9).any() | (one.isnan() != other.isnan()).any())
