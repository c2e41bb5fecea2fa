"""The alignment of a direction in parameter space with each record's gradient.

    dot_i = <v, g_i>,   norm_i = ||g_i||,   g_i = gradient of the task's loss of record i at given parameters

``vmap(grad)`` over chunks, in evaluation mode: records never mix.  -dot_i is how fast the loss of record i falls along
v, to first order.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad, vmap

from consilium.core.network import Network
from consilium.core.records import Records
from consilium.core.task import Task

__all__ = ["alignments", "record_losses"]

_BUDGET = 32 * 2**20
"""Bytes of per-example gradients held at once."""
_BATCH = 512


def alignments(
    network: Network, params: Tensor, buffers: Tensor, records: Records, direction: Tensor, task: Task
) -> tuple[Tensor, Tensor]:
    """``<direction, g_i>`` and ``||g_i||``, each float64 ``(n,)`` on the CPU, at ``params (d,)``."""
    fixed, along = network.buffers_at(buffers), list(network.parameters_at(direction).values())

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return task.losses(network.logits_at({**weights, **fixed}, x[None]), y[None])[0]

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))
    weights = network.parameters_at(params)
    dots, norms = [torch.zeros(0).double()], [torch.zeros(0).double()]
    for x, y in _chunks(records, max(1, _BUDGET // (4 * network.size + 1)), params.device):
        rows = [g.flatten(1) for g in gradients(weights, x, y).values()]
        dots.append(torch.stack([(g @ v.flatten()).double() for g, v in zip(rows, along, strict=True)]).sum(0).cpu())
        norms.append(torch.stack([g.double().square().sum(1) for g in rows]).sum(0).sqrt().cpu())
    return torch.cat(dots), torch.cat(norms)


@torch.no_grad()
def record_losses(network: Network, params: Tensor, buffers: Tensor, records: Records, task: Task) -> Tensor:
    """The task's losses, float64 ``(n,)`` on the CPU, of the model at ``params (d,)`` and ``buffers (b,)``."""
    losses = [
        task.losses(network.logits(params, buffers, x).double(), y).cpu()
        for x, y in _chunks(records, _BATCH, params.device)
    ]
    return torch.cat([torch.zeros(0).double(), *losses])


def _chunks(records: Records, size: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    return [
        (records.x[i : i + size].to(device), records.y[i : i + size].to(device)) for i in range(0, len(records), size)
    ]
