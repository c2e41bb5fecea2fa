"""The books of custom code compared with single records, on the batches of the training itself.

A network that passed on synthetic records (:mod:`.independence`) may still mix real ones: at a size that was not
tested, or at a rare value.  So the first part of every size, and parts number 1, 2, 4, 8, ..., are evaluated twice, in
a batch and one record at a time, without draws; a training whose gradients differ ends before it releases the step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.errors import Unlawful
from consilium.core.gradient import Objective
from consilium.core.network import Network
from consilium.core.random import Stream, scoped

from .bookkeeping import BookKeeping
from .leaves import ParameterGradients
from .one_by_one import OneByOne
from .undrawn import Undrawn
from .units import Part

__all__ = ["Witness"]

_FEW = 12
"""Examples of a part that are evaluated on their own."""
_SLACK = {"fp32": 1e-2, "bf16": 0.2}
"""Of the root of the summed squares of the norms: rounding, and ReLUs that it turns over."""


class Witness:
    """What was looked at of one network with custom code; the network is handed in, so that it can go."""

    def __init__(self) -> None:
        self._sizes: set[int] = set()
        self._parts = 0

    def check(
        self, network: Network, books: BookKeeping, params: Tensor, buffers: Tensor, objective: Objective, part: Part
    ) -> None:
        """Raise ``Unlawful`` if an example's gradient in ``part`` is not the one that it has alone.

        A network that draws where :class:`Undrawn` does not reach (rrelu) is not looked at.

        Raises Unlawful: a gradient in the batch differs from the one computed alone (law 5).
        """
        self._parts += 1
        rows = len(part.batch["x"])
        if rows in self._sizes and self._parts & (self._parts - 1):
            return
        self._sizes.add(rows)
        with Undrawn():
            if not _is_steady(network, params, buffers, part.batch["x"]):
                return
            with scoped(Stream(self._parts, ("per-example", "witness"))):
                apart = self._apart(network, books, params, buffers, objective, part)
        if not apart <= _SLACK[books.workspace.compute.precision]:
            raise Unlawful(
                f"in a training batch of {rows} records the gradients of single records depend on the others: they are "
                f"off by {apart:.2g} of their length",
                law=5,
                remedy="let forward treat each example alone, in batches of every size and whatever is in them",
                where="model",
            )

    def _apart(
        self, network: Network, books: BookKeeping, params: Tensor, buffers: Tensor, objective: Objective, part: Part
    ) -> float:
        """How far a weighted sum of gradients is from that of single examples, in parts of their length."""
        entries = books.entries(params, buffers, objective, part)
        squares = _squares(entries, part.n, params)
        if not bool(squares.isfinite().all()):  # such examples add nothing to the sum, which is taken without them
            part = part.only(squares.isfinite())
            return self._apart(network, books, params, buffers, objective, part) if part.n else 0.0
        keep, weights = self._some(part), torch.ones_like(squares)
        weights[::2] = -0.7
        alone = OneByOne(network)
        single = alone.entries(params, buffers, objective, part.only(keep))
        apart = _sum(entries, books, torch.where(keep, weights, 0), params) - _sum(single, alone, weights[keep], params)
        scale = (weights.square() * squares)[keep].sum().sqrt()
        return float(torch.linalg.vector_norm(apart) / scale.clamp_min(1e-9))

    def _some(self, part: Part) -> Tensor:
        """At most a few of the examples ``(n,)`` of ``part``, others every time."""
        step = max(1, -(-part.n // _FEW))
        keep = torch.zeros(part.n, dtype=torch.bool, device=part.place.device)
        keep[self._parts % step :: step] = True
        return keep


def _is_steady(network: Network, params: Tensor, buffers: Tensor, x: Tensor) -> bool:
    answers = []
    for seed in range(2):
        with scoped(Stream(seed, ("per-example", "steady"))), torch.no_grad():
            answers.append(network.logits(params, buffers.clone(), x, training=True))
    return torch.allclose(answers[0], answers[1], rtol=1e-3, atol=1e-5, equal_nan=True)


def _squares(entries: list[ParameterGradients], n: int, params: Tensor) -> Tensor:
    total = params.new_zeros(n)
    for entry in entries:
        for square in entry.gradients.squares():
            total += square.to(params.dtype)
    return total


def _sum(entries: list[ParameterGradients], route: BookKeeping | OneByOne, weights: Tensor, params: Tensor) -> Tensor:
    total = torch.zeros_like(params)
    for entry in entries:
        values = entry.gradients.weighted([weights] * len(entry.numbers))
        for number, value in zip(entry.numbers, values, strict=True):
            start = route.leaves.offsets[number]
            total[start : start + value.numel()] += value.reshape(-1)
    return total
