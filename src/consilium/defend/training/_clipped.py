"""Clipped sums for DP-SGD: of records by the per-example engine, of whole units by one gradient each.

    sum_u g_u min(1, C / ||g_u||),   g_u = gradient of the mean loss of unit u's records

A unit whose gradient is not finite contributes zero, as a record does.  Nothing mixes the records of a unit: the rule
refuses networks that do (LAWS 5).

Source: McMahan et al. 2018, Learning Differentially Private Recurrent Language Models, arXiv 1710.06963, section 2
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from consilium.core.errors import Unlawful
from consilium.core.gradient import Batch, Objective
from consilium.core.network import Network
from consilium.learn.per_example import clipped_sum

__all__ = ["Style", "clipped"]

Style = Literal["flat"]


def clipped(
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
    """The sum ``(d,)`` over records, or over the units ``(n,)`` that they belong to, of gradients of norm <= clip."""
    if style != "flat":
        raise Unlawful(f"there is no clipping {style!r}", remedy='use clipping = "flat"')
    if unit is None:
        return clipped_sum(network, params, buffers, objective, batch, clip, chunk)
    total = torch.zeros_like(params)
    for whose in torch.unique(unit):
        gradient = _gradient(network, params, buffers, objective, {k: t[unit == whose] for k, t in batch.items()})
        norm = torch.linalg.vector_norm(gradient)
        if bool(norm.isfinite()):
            total += gradient * (clip / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp(max=1)
    return total


def _gradient(network: Network, params: Tensor, buffers: Tensor, objective: Objective, batch: Batch) -> Tensor:
    """The gradient ``(d,)`` of the mean loss of one unit's records."""
    at = params.detach().clone().requires_grad_()
    held = buffers.detach().clone()
    losses = objective.losses(lambda x: network.logits(at, held, x, training=True), batch)
    return torch.autograd.grad(losses.mean(), at)[0]
