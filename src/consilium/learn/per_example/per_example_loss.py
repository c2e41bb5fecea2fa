"""An objective is evaluated one example at a time while the network evaluates all at once.

``vmap`` runs the objective on batches of one.  Its calls of the network are collected over all of them and evaluated
in one forward pass, which autograd records.  So an objective that divides by the size of its batch, or compares the
examples in it, has a batch of one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from consilium.core.gradient import Batch, Objective, Predict
from consilium.learn.objectives import TaskLoss

__all__ = ["per_example_losses"]


def per_example_losses(objective: Objective, predict: Predict, batch: Batch) -> Tensor:
    """Losses ``(n,)``, each of a batch of one, differentiable in what ``predict`` depends on."""

    if type(objective) is TaskLoss and objective.task.is_builtin():
        # The tasks of this package are tested to look at each example alone; vmap costs a small model a tenth.
        return objective.losses(predict, batch)

    def loss(example: dict[str, Tensor]) -> Tensor:
        alone = {name: t.unsqueeze(0) for name, t in example.items()}
        return objective.losses(lambda x: _PredictionFunction.apply(x, predict), alone).squeeze(0)  # type: ignore[no-untyped-call]

    losses: Tensor = vmap(loss, randomness="different")(dict(batch))
    return losses


class _PredictionFunction(torch.autograd.Function):
    """Under vmap: one call for all.  (n, k, ...) is evaluated as n k rows, so an example may have several inputs."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x: Tensor, predict: Predict) -> Tensor:
        return predict(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing to keep: autograd differentiates the forward pass itself."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, None], x: Tensor, predict: Predict) -> tuple[Tensor, int]:
        dim, n = in_dims[0], info.batch_size
        x = x.expand(n, *x.shape) if dim is None else x.movedim(dim, 0)
        out = predict(x.reshape(n * x.shape[1], *x.shape[2:]))
        return out.view(n, x.shape[1], *out.shape[1:]), 0
