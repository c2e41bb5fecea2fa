"""Book-keeping, vmap or one example after the other, decided once per network and remembered.

Book-keeping is right for a network whose answer for one row depends on that row alone and whose parameters act through
its layers.  Types tell part of that (BatchNorm does not); the rest is proved on two synthetic examples, at perturbed
weights so that no layer starts as zero:

    1. an answer is the same beside another example (training mode, the same draws), and alone
    2. in one and the same forward pass, each parameter's two gradients have the norms that autograd finds, and so has
       their weighted sum

A custom ``forward`` may depend on the size of its batch: there the first is tested in batches up to 65 and in the
gradients too (:mod:`.independence`), and again on the batches of the training (:mod:`.witness`).  A hook on a gradient,
or a backward pass in Python, is evaluated one example at a time.

A parameter that is used past its layer, a mixed batch, a batch that is not in front and random draws in a module that
is run again all fail the second.  A network that fails uses vmap, and if vmap cannot run it, one by one; logged once.
A rule registered from outside that fails where ``vmap`` in its place does not is wrong, and refused by name.
"""

from __future__ import annotations

import logging
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from consilium.core.errors import Refused
from consilium.core.frozen import trained_parameters
from consilium.core.gradient import Batch, Objective, Predict
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.learn.custom_code import has_custom_code
from consilium.learn.fine_tuning.batch_statistics import batch_statistics

from .bookkeeping import BookKeeping
from .by_vmap import ByVmap
from .independence import custom_backward, dependence, outlying, varied
from .layer_rule import rule_for
from .one_by_one import OneByOne
from .units import Part

__all__ = ["Route", "dispatch", "remember"]

Route = BookKeeping | ByVmap | OneByOne

_log = logging.getLogger("consilium.per_example")
_known: WeakKeyDictionary[Network, Route] = WeakKeyDictionary()
_FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, Refused)
"""What a module or a rule may raise in the proof."""


def dispatch(network: Network, params: Tensor, buffers: Tensor, batch: Batch) -> Route:
    """The route of ``network``; ``batch`` (not empty) gives an example's shape and, for whole numbers, their range.

    Raises ``Refused`` where a rule registered from outside gives other gradients than autograd.
    """
    if network not in _known:
        with scoped(Stream(0, ("per-example", "proof"))):
            _known[network] = _decide(network, params.detach(), buffers.detach(), batch["x"])
    return _known[network]


def remember(network: Network, route: Route) -> None:
    """Let ``network`` take ``route`` from now on, unproved: for comparisons of the two."""
    _known[network] = route


def _decide(network: Network, params: Tensor, buffers: Tensor, x: Tensor) -> Route:
    if reason := _by_type(network):
        return _slowly(network, reason, params, buffers, x)
    at = params + 0.05 * torch.randn_like(params)
    one, two, three = (_synthetic(x, i) for i in range(3))
    try:
        if _mixes(network, at, buffers, one, two, three):
            return _slowly(network, "an answer depends on the other examples of its batch", at, buffers, x)
        slow = _custom(network, at, buffers, x, torch.cat([one, two]))
        if slow is not None:
            return slow
        books = BookKeeping(network)
    except _FAILURES as error:
        return _slowly(network, f"book-keeping fails: {_line(error)}", at, buffers, x)
    fault = _fault(books, at, buffers, torch.cat([one, two]))
    if fault is not None and books.outside:
        _refuse_outside(network, books.outside, fault, at, buffers, torch.cat([one, two]))
    if fault is not None:
        return _slowly(network, fault, at, buffers, x)
    if books.by_vmap:
        _log.info("per-example gradients of these modules go by vmap: %s", ", ".join(books.by_vmap))
    return books


def _custom(network: Network, at: Tensor, buffers: Tensor, x: Tensor, pair: Tensor) -> Route | None:
    """The slow route of custom code that books cannot be kept of; None where they can."""
    if not has_custom_code(network.template):
        return None
    if backward := custom_backward(network, at, buffers, pair):
        _log.warning("per-example gradients of the whole %s go one by one: %s", _kind(network), backward)
        return OneByOne(network)
    reasons = (dependence(network, at, buffers, records) for records in _records(x))
    reason = next((reason for reason in reasons if reason), None)
    return None if reason is None else _slowly(network, reason, at, buffers, x)


def _fault(books: BookKeeping, params: Tensor, buffers: Tensor, x: Tensor) -> str | None:
    """Why these books are wrong for the two examples ``x``; None if they are right."""
    try:
        wrong = _differs(books, params, buffers, x)
    except _FAILURES as error:
        return f"book-keeping fails: {_line(error)}"
    return None if wrong is None else f"the gradient of {wrong} is not computed by its layer alone"


def _refuse_outside(network: Network, rules: list[str], fault: str, params: Tensor, buffers: Tensor, x: Tensor) -> None:
    """Refuse the ``rules`` from outside where the books are right without them."""
    if _fault(BookKeeping(network, outside=False), params, buffers, x) is None:
        raise Refused(
            f"the registered {', '.join(rules)} gives other per-example gradients than autograd ({fault})",
            remedy="correct the rule, or do not register it: the layer then uses vmap",
        )


class _SquaredAnswers(Objective):
    """A loss of whatever a model answers, to try a route with."""

    def losses(self, predict: Predict, batch: Batch) -> Tensor:
        return predict(batch["x"]).flatten(1).square().mean(1)


def _slowly(network: Network, reason: str, params: Tensor, buffers: Tensor, x: Tensor) -> Route:
    """By vmap if it carries two examples, else one by one."""
    kind, route = _kind(network), ByVmap(network)
    pair = torch.cat([_synthetic(x, 0), _synthetic(x, 1)])
    batch = {"x": pair, "y": torch.zeros(2, dtype=torch.long, device=x.device)}
    try:
        route.entries(params, buffers, _SquaredAnswers(), Part(batch, torch.arange(2, device=x.device)))
    except _FAILURES as error:
        why = f"{reason}; vmap fails: {_line(error)}"
        _log.warning("per-example gradients of the whole %s go one by one, which is slow: %s", kind, why)
        return OneByOne(network)
    _log.warning("per-example gradients of the whole %s go by vmap: %s", kind, reason)
    return route


def _kind(network: Network) -> str:
    return type(network.template).__name__


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else repr(error)


def _by_type(network: Network) -> str | None:
    """Why the types of its modules alone rule book-keeping out."""
    template = network.template
    if mixing := batch_statistics(network):
        return f"{mixing[0] or 'it'} is a {type(mixing[1]).__name__}, which looks at the whole batch"
    for name, module in template.named_modules():
        if half := _half_frozen(module):
            return f"{name or 'it'} has both trained and frozen parameters ({half} is frozen)"
    names = [name for name, p in template._parameters.items() if p is not None]
    if names and next(template.children(), None) is not None:
        return f"{names[0]} belongs to no layer"
    return None


def _half_frozen(layer: nn.Module) -> str | None:
    """The first frozen parameter of a layer with trained ones, where a rule gives the gradients of all of them."""
    direct = [p for p in layer._parameters.values() if p is not None]
    if not any(p.requires_grad for p in direct):
        return None
    below = layer.named_parameters(recurse=rule_for(layer) is None)
    return next((name for name, p in below if not p.requires_grad), None)


def _synthetic(x: Tensor, number: int) -> Tensor:
    """One synthetic example like those of ``x``; integers are tokens, whose order is reversed instead."""
    if x.is_floating_point():
        return torch.rand_like(x[:1])
    example = x[number % len(x)].flatten()
    return example.roll(number).view(1, *x.shape[1:])


def _records(x: Tensor) -> list[Tensor]:
    """Synthetic examples that differ: a batch of several can show what two do not."""
    if x.is_floating_point():
        return [varied(x.shape[1:], like=x), outlying(x.shape[1:], like=x)]
    return [torch.cat([_synthetic(x, number) for number in range(8)])]


def _mixes(network: Network, params: Tensor, buffers: Tensor, one: Tensor, two: Tensor, three: Tensor) -> bool:
    def answers(*rows: Tensor, training: bool) -> Tensor:
        with scoped(Stream(1)), torch.no_grad():
            return network.logits(params, buffers.clone(), torch.cat(rows), training=training)

    both = answers(one, two, training=True)
    swapped = _same(both[0], answers(one, three, training=True)[0]) and _same(
        both[1], answers(three, two, training=True)[1]
    )
    alone = _same(answers(one, two, training=False)[0], answers(one, training=False)[0])
    return not (swapped and alone)


def _differs(books: BookKeeping, params: Tensor, buffers: Tensor, x: Tensor) -> str | None:
    """The first parameter whose norms, or whose weighted sum, differ from autograd's in the same graph, or None."""
    losses: list[Tensor] = []
    x = x.requires_grad_(x.is_floating_point())

    def total(predict: object) -> Tensor:
        answers = predict(x)  # type: ignore[operator]
        losses.extend((answers * torch.randn_like(answers)).flatten(1).sum(1))
        return torch.stack(losses).sum()

    entries, _ = books.entries_of(params, buffers, total, 2, keep=True)
    books.measure(entries)
    leaves = books.workspace.leaves
    ours, share = params.new_zeros(len(leaves), 2), params.new_tensor([1.0, 0.5])
    sums: dict[int, Tensor] = {}
    for entry in entries:
        ours[list(entry.numbers)] = torch.stack(entry.gradients.squares()).to(params.dtype)
        sums |= dict(zip(entry.numbers, entry.gradients.weighted([share] * len(entry.numbers)), strict=True))
    # With the inputs' gradient too: torch 2.13 crashes in a channels-last GroupNorm without it.
    wanted = [*leaves, x] if x.requires_grad else leaves
    rows = [
        torch.autograd.grad(v, wanted, retain_graph=True, materialize_grads=True, allow_unused=True) for v in losses
    ]
    theirs = torch.stack([torch.stack([g.square().sum() for g in row[: len(leaves)]]) for row in rows], 1)
    slack = {torch.float64: 1e-8}.get(params.dtype, 2e-3) if books.workspace.compute.precision == "fp32" else 0.1
    most = slack * theirs.max().sqrt().clamp_min(1e-12)
    off = ((ours.sqrt() - theirs.sqrt()).abs() > most).any(1) | ~ours.isfinite().all(1)
    for number, value in sums.items():
        apart = value.reshape(-1) - (rows[0][number] + 0.5 * rows[1][number]).reshape(-1)
        off[number] |= ~(torch.linalg.vector_norm(apart) <= most)
    odd = torch.nonzero(off)
    names = list(trained_parameters(books.workspace.module))
    return names[int(odd[0])] if len(odd) else None


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True)
