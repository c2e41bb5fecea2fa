"""The whole network by ``vmap(grad)``: each example is evaluated as a batch of one, so nothing can mix examples.

Fallback for networks whose examples interact: ``vmap(grad)``, one example at a time; slow.
"""

from __future__ import annotations

import warnings

from torch import Tensor
from torch.func import grad, vmap

from consilium.core.gradient import Batch, Objective
from consilium.core.network import Network

from .layer_gradients import FormedGradients
from .leaves import Leaves, ParameterGradients
from .units import Part

__all__ = ["ByVmap"]

_BUDGET = 32 * 2**20
"""Bytes of per-example gradients held at once: larger parts leave the cache, smaller ones pay overhead (measured)."""


class ByVmap:
    """One network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.leaves = Leaves.of(network)

    def fitting(self, batch: Batch) -> int:
        """How many examples fit the budget; an example's activations are estimated as 32 times its input."""
        x = batch["x"]
        each = (self.network.size + 32 * x[:1].numel()) * x.element_size()
        return max(1, _BUDGET // max(each, 1))

    def entries(self, params: Tensor, buffers: Tensor, objective: Objective, part: Part) -> list[ParameterGradients]:
        """All gradients of ``part``, formed."""
        network = self.network
        named, fixed = network.parameters_at(params.detach()), network.buffers_at(buffers.detach())

        def loss(weights: dict[str, Tensor], example: dict[str, Tensor]) -> Tensor:
            def predict(x: Tensor) -> Tensor:
                return network.logits_at({**weights, **fixed}, x, training=True)

            return objective.losses(predict, {name: t.unsqueeze(0) for name, t in example.items()}).squeeze(0)

        with warnings.catch_warnings():
            # Some kernels (mkldnn's LSTM) go one by one under vmap: slow and right, and the log says that it is vmap.
            warnings.filterwarnings("ignore", "There is a performance drop because we have not yet implemented")
            gradients = vmap(grad(loss), in_dims=(None, 0), randomness="different")(named, part.batch)
        rows = [g.flatten(1) for g in gradients.values()]
        if part.share is not None:
            rows = [(g * part.share.to(g.dtype)[:, None]).view(part.n, -1, g.shape[1]).sum(1) for g in rows]
        return [ParameterGradients(tuple(range(len(rows))), FormedGradients(rows))] if rows else []
