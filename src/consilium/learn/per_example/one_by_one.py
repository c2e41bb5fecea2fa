"""The whole network, one example after the other, each differentiated by ordinary autograd as a batch of one.

The slowest way, which works for any module: a recurrent layer that writes in place, or code that branches on values,
cannot go through ``vmap``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.gradient import Batch, Objective
from consilium.core.network import Network

from .layer_gradients import FormedGradients
from .leaves import Leaves, ParameterGradients
from .units import Part

__all__ = ["OneByOne"]

_BUDGET = 32 * 2**20
"""Bytes of per-example gradients held at once."""


class OneByOne:
    """One network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.leaves = Leaves.of(network)

    def fitting(self, batch: Batch) -> int:
        """How many examples' gradients fit the budget."""
        return max(1, _BUDGET // max(self.network.size * batch["x"].element_size(), 1))

    def entries(self, params: Tensor, buffers: Tensor, objective: Objective, part: Part) -> list[ParameterGradients]:
        """All gradients of ``part``, formed."""
        rows = [
            self._gradient(params, buffers, objective, {name: t[i : i + 1] for name, t in part.batch.items()})
            for i in range(len(part.batch["x"]))
        ]
        stacked = [torch.stack(same) for same in zip(*rows, strict=True)]
        if part.share is not None:
            share = part.share.to(params.dtype)[:, None]
            stacked = [(g * share).view(part.n, -1, g.shape[1]).sum(1) for g in stacked]
        return [ParameterGradients(tuple(range(len(stacked))), FormedGradients(stacked))] if stacked else []

    def _gradient(self, params: Tensor, buffers: Tensor, objective: Objective, example: Batch) -> list[Tensor]:
        """Of one example, flat, by parameter."""
        network = self.network
        named = {name: p.detach().clone().requires_grad_() for name, p in network.parameters_at(params).items()}
        fixed = network.buffers_at(buffers.detach().clone())

        def predict(x: Tensor) -> Tensor:
            return network.logits_at({**named, **fixed}, x, training=True)

        loss = objective.losses(predict, example).sum()
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
        return [g.flatten() for g in gradients]
