"""Per-example gradients, clipped and summed: sum_i g_i min(1, C / ||g_i||), g_i the gradient of example i's loss alone.

``vmap(grad)`` over chunks of the batch.  Each example is evaluated as a batch of one, so nothing can mix examples.  An
example whose gradient is not finite contributes zero: whatever a record does, it moves the sum by at most C.
Measured on one thread, time over that of the plain gradient of 64 examples: CNN (20k weights) 1.5, ResNet-9 1.6.

Source: Abadi et al. 2016, arXiv 1607.00133 (clipping per example)
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.func import grad, vmap

from consilium.core.gradient import Batch, Objective
from consilium.core.network import Network

__all__ = ["clipped_sum", "per_example_norms"]

_BUDGET = 32 * 2**20
"""Bytes of per-example gradients held at once: larger chunks leave the cache, smaller ones pay overhead (measured)."""


def clipped_sum(
    network: Network,
    params: Tensor,
    buffers: Tensor,
    objective: Objective,
    batch: Batch,
    clip: float,
    chunk: int | None = None,
) -> Tensor:
    """The sum ``(d,)`` over the batch of gradients of norm at most ``clip``; zeros for an empty batch.

    The network is evaluated in training mode at ``params (d,)`` and ``buffers (b,)``, which stay as they are; Dropout
    draws per example from torch's global generator: call inside ``core.random.scoped``.  ``chunk`` examples are held at
    once (None: what fits 32 MiB); it changes speed and rounding only.
    """
    total = [torch.zeros_like(p).flatten() for p in network.parameters_at(params).values()]
    for gradients, norms in _chunks(network, params, buffers, objective, batch, chunk):
        weights = (clip / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp(max=1)
        finite = norms.isfinite()
        sound = bool(finite.all())
        for sum_, g in zip(total, gradients, strict=True):
            sum_.addmv_((g if sound else g.where(finite[:, None], 0)).T, weights.where(finite, 0))
    return torch.cat([*total, params.new_zeros(0)])


def per_example_norms(
    network: Network, params: Tensor, buffers: Tensor, objective: Objective, batch: Batch, chunk: int | None = None
) -> Tensor:
    """The Euclidean norms ``(n,)`` of the per-example gradients, before clipping."""
    norms = [n for _, n in _chunks(network, params, buffers, objective, batch, chunk)]
    return torch.cat([*norms, params.new_zeros(0)])


def _chunks(
    network: Network, params: Tensor, buffers: Tensor, objective: Objective, batch: Batch, chunk: int | None
) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Gradients, one ``(n, size)`` per parameter, and their joint norms ``(n,)``, chunk by chunk."""
    named, fixed = network.parameters_at(params.detach()), network.buffers_at(buffers.detach())

    def loss(weights: dict[str, Tensor], example: dict[str, Tensor]) -> Tensor:
        def predict(x: Tensor) -> Tensor:
            return network.logits_at({**weights, **fixed}, x, training=True)

        return objective.losses(predict, {name: t.unsqueeze(0) for name, t in example.items()}).squeeze(0)

    gradient = vmap(grad(loss), in_dims=(None, 0), randomness="different")
    for part in _split(batch, chunk or _fitting(batch, network.size)):
        gradients = [g.flatten(1) for g in gradient(named, part).values()]
        squares = [torch.linalg.vector_norm(g, dim=1).square() for g in gradients]
        yield gradients, torch.stack(squares).sum(0).sqrt()


def _fitting(batch: Batch, size: int) -> int:
    """How many examples fit the budget; 32 times the input stands for an example's activations."""
    x = batch["x"]
    each = (size + 32 * x[:1].numel()) * x.element_size()
    return max(1, _BUDGET // max(each, 1))


def _split(batch: Batch, chunk: int) -> Iterator[dict[str, Tensor]]:
    """Parts of nearly equal size, none above ``chunk``; nothing for an empty batch."""
    n = len(batch["x"])
    parts = -(-n // chunk)
    for start in range(0, n, -(-n // parts) if parts else 1):
        stop = start + -(-n // parts)
        yield {name: t[start:stop] for name, t in batch.items()}
