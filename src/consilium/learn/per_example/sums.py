"""The clipped sum of a logical batch, put together from physical parts of any size.

An example whose gradient is not finite contributes zero: whatever a record does, it moves the sum by at most C.  Its
part is evaluated again without it, for zero times infinity is no number.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from consilium.core.gradient import Batch, Objective
from consilium.core.network import Network

from .leaves import Entry
from .route import Route, route_of
from .styles import Style, check_style, factors
from .units import Part, count, parts

__all__ = ["clipped_sum", "per_example_norms"]


def clipped_sum(
    network: Network,
    params: Tensor,
    buffers: Tensor,
    objective: Objective,
    batch: Batch,
    clip: float,
    chunk: int | None = None,
    *,
    style: Style = "flat",
    unit: Tensor | None = None,
) -> Tensor:
    """The sum ``(d,)`` over the batch of gradients of norm at most ``clip``; zeros for an empty batch.

    The network is evaluated in training mode at ``params (d,)`` and ``buffers (b,)``, which stay as they are; Dropout
    draws per example from torch's global generator: call inside ``core.random.scoped``.  About ``chunk`` examples are
    held at once (None: what fits 256 MiB); it changes speed and rounding only.  ``style`` says how norms are brought
    down to ``clip``.  Examples with one number in ``unit (n,)`` are one unit: their losses are averaged, and the unit's
    gradient is clipped once.  The sum moves by at most ``clip`` when one example, or one unit, is added or removed.
    """
    check_style(style)
    total = params.new_zeros(params.shape)
    for route, part in _parts(network, params, buffers, batch, chunk, unit):
        entries, squares = _sound(route, params, buffers, objective, part)
        _add(total, route, entries, factors(squares, style, clip))
    return total


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
    """The Euclidean norms ``(n,)`` of the per-example gradients before clipping; of units by rising number."""
    norms = params.new_zeros(count(batch, unit))
    for route, part in _parts(network, params, buffers, batch, chunk, unit):
        _, squares = _evaluate(route, params, buffers, objective, part)
        norms[part.place] = squares.sum(1).sqrt().to(norms.dtype)
    return norms


def _parts(
    network: Network, params: Tensor, buffers: Tensor, batch: Batch, chunk: int | None, unit: Tensor | None
) -> Iterator[tuple[Route, Part]]:
    if count(batch, unit) == 0:
        return
    route = route_of(network, params, buffers, batch)
    for part in parts(batch, unit, chunk or route.fitting(batch)):
        yield route, part


def _sound(
    route: Route, params: Tensor, buffers: Tensor, objective: Objective, part: Part
) -> tuple[list[Entry], Tensor]:
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
) -> tuple[list[Entry], Tensor]:
    """The gradients by layer, and their squared norms ``(n, layers)``."""
    entries = route.entries(params, buffers, objective, part)
    layers: dict[int, Tensor] = {}
    for entry in entries:
        for number, square in zip(entry.numbers, entry.piece.squares(), strict=True):
            layer = route.leaves.layer[number]
            layers[layer] = layers[layer] + square if layer in layers else square
    none = params.new_zeros(part.n)
    squares = [layers.get(layer, none) for layer in range(route.leaves.layers)]
    return entries, torch.stack(squares, 1).to(params.dtype)


def _add(total: Tensor, route: Route, entries: list[Entry], weights: Tensor) -> None:
    """Add the weighted sum of every piece to its place in ``total (d,)``."""
    leaves = route.leaves
    columns = list(weights.unbind(1))
    for entry in entries:
        own = [columns[leaves.layer[number]] for number in entry.numbers]
        for number, value in zip(entry.numbers, entry.piece.weighted(own), strict=True):
            start = leaves.offsets[number]
            total[start : start + value.numel()].view(value.shape).add_(value)
