"""Per-example clipping: a gradient of norm at most C from each example or unit, and their sum.

    flat        min(1, C / ||g||)                     the whole gradient at once
    per-layer   min(1, C_l / ||g_l||), C_l = C / sqrt(L)   each of L layers; the whole still has norm C at most
    automatic   C / (||g|| + 0.01)                    every gradient is scaled, so C and the learning rate are one knob

A layer is a group of parameters: a weight and its bias.  The sum of a logical batch is put together from
physical parts of any size.  An example whose gradient is not finite contributes zero: whatever a record does, it moves
the sum by at most C.  Its part is evaluated again without it, for zero times infinity is no number.

Source: Abadi et al. 2016, arXiv 1607.00133; McMahan et al. 2018, arXiv 1710.06963 (per layer);
Bu et al. 2023, Automatic Clipping, arXiv 2206.07136
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from consilium.core.charge import Adjacency
from consilium.core.errors import Refused
from consilium.core.gradient import Batch, Objective
from consilium.core.network import Network
from consilium.learn.user_code.custom_code import has_custom_code

from .bookkeeping import BookKeeping
from .dispatch import Route, dispatch
from .leaves import ParameterGradients
from .units import Part, count, parts
from .witness import Witness

__all__ = ["GAMMA", "ClippedSum", "ClippingStyle", "clipped_sum", "per_example_norms"]

ClippingStyle = Literal["flat", "per-layer", "automatic"]

_witnesses: WeakKeyDictionary[Network, Witness | None] = WeakKeyDictionary()

GAMMA = 0.01
"""The stability constant of automatic clipping: a gradient far below it is shrunk rather than blown up."""


@dataclass(frozen=True, eq=False)
class ClippedSum:
    """The sum ``value (d,)`` of one gradient of norm at most ``clip`` from each example or unit of a batch.

    Guarantee: when one example (or unit) is added or removed, ``value`` moves by at most ``clip`` in Euclidean norm;
    when one is replaced by another, by at most ``2 * clip``; whatever the record holds, NaN and infinity too.
    """

    value: Tensor
    clip: float

    def sensitivity(self, adjacency: Adjacency) -> float:
        """How far two neighbouring data sets' sums are apart at most, in Euclidean norm.

        A noise multiplier is a multiple of ``sensitivity("add-or-remove-one")`` under EITHER adjacency, as the charge
        ``Gaussian`` defines it; the factor 2 of replace-one is applied to epsilon, in
        ``measure.accounting.composition``, and is never put into the noise as well.
        """
        return self.clip if adjacency == "add-or-remove-one" else 2 * self.clip


def clipped_sum(
    network: Network,
    params: Tensor,
    buffers: Tensor,
    objective: Objective,
    batch: Batch,
    clip: float,
    chunk: int | None = None,
    *,
    style: ClippingStyle = "flat",
    unit: Tensor | None = None,
) -> ClippedSum:
    """The sum over the batch of per-example gradients of norm at most ``clip``; zeros ``(d,)`` for an empty batch.

    The network is evaluated in training mode at ``params (d,)`` and ``buffers (b,)``, which stay as they are; Dropout
    draws per example from torch's global generator: call inside ``core.random.scoped``.  About ``chunk`` examples are
    held at once (None: what fits 256 MiB); it changes speed and rounding only.  ``style`` is how norms are limited
    down to ``clip``.  Examples with one number in ``unit (n,)`` are one unit: their losses are averaged, and the unit's
    gradient is clipped once.

    Guarantee: that of :class:`ClippedSum`, provided that the objective's ``prepare`` and the network keep examples
    apart (LAWS 5); units where ``unit`` is given, else examples.

    Raises ``Refused`` for an unknown ``style``, for a ``unit`` that does not number the examples, and for a layer rule
    registered from outside that is wrong; ``Unlawful`` for custom code whose gradients depend on the other examples.
    """
    _check_style(style)
    total = params.new_zeros(params.shape)
    for route, part in _parts(network, params, buffers, batch, chunk, unit):
        witness = _witness(network)
        if witness is not None and isinstance(route, BookKeeping):
            witness.check(network, route, params, buffers, objective, part)
        entries, squares = _finite(route, params, buffers, objective, part)
        _add(total, route, entries, _factors(squares, style, clip))
    return ClippedSum(total, clip)


def per_example_norms(
    network: Network,
    params: Tensor,
    buffers: Tensor,
    objective: Objective,
    batch: Batch,
    chunk: int | None = None,
    *,
    unit: Tensor | None = None,
) -> Tensor:
    """The Euclidean norms ``(n,)`` of the per-example gradients before clipping; of units by rising number.

    Guarantee: none; norms are private values.
    """
    norms = params.new_zeros(count(batch, unit))
    for route, part in _parts(network, params, buffers, batch, chunk, unit):
        _, squares = _evaluate(route, params, buffers, objective, part)
        norms[part.place] = squares.sum(1).sqrt().to(norms.dtype)
    return norms


def _parts(
    network: Network, params: Tensor, buffers: Tensor, batch: Batch, chunk: int | None, unit: Tensor | None
) -> Iterator[tuple[Route, Part]]:
    """Physical parts, and the route to their gradients: book-keeping wherever it is proved."""
    if count(batch, unit) == 0:
        return
    route = dispatch(network, params, buffers, batch)
    for part in parts(batch, unit, chunk or route.fitting(batch)):
        yield route, part


def _witness(network: Network) -> Witness | None:
    """What compares the books with single records; None for layers of torch and of this package."""
    if network not in _witnesses:
        _witnesses[network] = Witness() if has_custom_code(network.template) else None
    return _witnesses[network]


def _finite(
    route: Route, params: Tensor, buffers: Tensor, objective: Objective, part: Part
) -> tuple[list[ParameterGradients], Tensor]:
    """The gradients of those examples whose gradient is finite, and their squared norms."""
    while part.n:
        entries, squares = _evaluate(route, params, buffers, objective, part)
        finite = squares.isfinite().all(1)
        if bool(finite.all()):
            return entries, squares
        part = part.only(finite)
    return [], params.new_zeros(0, route.leaves.layers)


def _evaluate(
    route: Route, params: Tensor, buffers: Tensor, objective: Objective, part: Part
) -> tuple[list[ParameterGradients], Tensor]:
    """The gradients by layer, and their squared norms ``(n, layers)``."""
    entries = route.entries(params, buffers, objective, part)
    layers: dict[int, Tensor] = {}
    for entry in entries:
        for number, square in zip(entry.numbers, entry.gradients.squares(), strict=True):
            layer = route.leaves.layer[number]
            layers[layer] = layers[layer] + square if layer in layers else square
    none = params.new_zeros(part.n)
    squares = [layers.get(layer, none) for layer in range(route.leaves.layers)]
    return entries, torch.stack(squares, 1).to(params.dtype)


def _factors(squares: Tensor, style: ClippingStyle, clip: float) -> Tensor:
    """Factors ``(n, L)`` from the squared norms ``(n, L)`` of every example's gradient in every layer."""
    if style == "per-layer":
        return _at_most(clip / math.sqrt(max(1, squares.shape[1])), squares.sqrt())
    norms = squares.sum(1, keepdim=True).sqrt()
    factors = clip / (norms + GAMMA) if style == "automatic" else _at_most(clip, norms)
    return factors.where(norms.isfinite(), 0).expand(squares.shape)


def _at_most(clip: float, norms: Tensor) -> Tensor:
    factors = (clip / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp(max=1)
    return factors.where(norms.isfinite(), 0)


def _add(total: Tensor, route: Route, entries: list[ParameterGradients], weights: Tensor) -> None:
    """Add the weighted sum of every layer's gradients to its place in ``total (d,)``."""
    leaves = route.leaves
    columns = list(weights.unbind(1))
    for entry in entries:
        factors = [columns[leaves.layer[number]] for number in entry.numbers]
        for number, value in zip(entry.numbers, entry.gradients.weighted(factors), strict=True):
            start = leaves.offsets[number]
            total[start : start + value.numel()].view(value.shape).add_(value)


def _check_style(style: str) -> None:
    if style not in get_args(ClippingStyle):
        kinds = ", ".join(get_args(ClippingStyle))
        raise Refused(f"there is no clipping style {style!r}", remedy=f"use one of {kinds}")
