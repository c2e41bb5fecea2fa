"""Whether a merged model can be trained on: checked for every round before its state replaces the last good one.

    finite     every number of the state, and the square of every vector's length, as float32 has them
    length     no vector is more than 10^7 times as long as before (and as 1)
    loss       on public records: finite, and at most 10^4 times what it was (and 1)

The bounds are wide: they do not defend a model (a norm bound or a median does), they detect a broken one.  One update
that breaks it can be identified too, where it is longer than ten times the median of the others and the model is sound
without it.  Only public records and the updates are read (LAWS 9); a test set never is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from statistics import median

import torch
from torch import Tensor

from consilium.core.algorithm import Server
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.core.task import Task
from consilium.core.update import Update

__all__ = ["LONGEST", "PublicLoss", "length", "public_loss", "suspects", "unsound"]

LONGEST = math.sqrt(torch.finfo(torch.float32).max)
"""A vector beyond this length has a square that float32 cannot hold."""

PublicLoss = Callable[[Tensor, Tensor], float]
"""The mean loss of parameters ``(d,)`` and buffers ``(b,)`` on public records."""

_GROWTH, _WORSE, _OUTLYING = 1e7, 1e4, 10.0
_JUDGED = 256
"""Public records that are evaluated: enough to detect a broken model, and fast compared with a round."""


def unsound(before: Server, after: Server, loss: PublicLoss | None = None) -> str | None:
    """Why the state ``after``, which follows ``before``, cannot be trained on; None if it is sound."""
    for name, vector in _vectors(after).items():
        was, now = _vectors(before).get(name), length(vector)
        if not now < LONGEST:
            return f"its {name} are not finite in float32"
        if was is not None and now > _GROWTH * max(1.0, length(was)):
            return f"its {name} are {now:.3g} long, after {length(was):.3g}"
    if loss is None:
        return None
    now = loss(after.params, after.buffers)
    if now <= _WORSE:
        return None
    if math.isfinite(now) and now <= _WORSE * max(1.0, loss(before.params, before.buffers)):
        return None
    return f"its loss on public records is {now:.3g}"


def suspects(updates: Iterable[Update]) -> list[str]:
    """Sites whose update is ten times longer than the median of the others, the longest first; fewer than half."""
    lengths = {update.site: max((length(t) for t in update.payload.values()), default=0.0) for update in updates}
    longest = sorted(lengths, key=lambda site: -lengths[site])[: (len(lengths) - 1) // 2 or len(lengths) // 2]
    return [site for site in longest if lengths[site] > _OUTLYING * _others(lengths, site)]


def public_loss(network: Network, public: Records, task: Task) -> PublicLoss | None:
    """The loss on the first of the ``public`` records; None without any."""
    if not len(public):
        return None
    x, y = public.x[:_JUDGED], public.y[:_JUDGED]

    def loss(params: Tensor, buffers: Tensor) -> float:
        with torch.no_grad(), scoped(Stream(0).child("public loss")):  # a user's module may draw
            logits = network.logits(params, buffers, x.to(params.device))
            return float(task.loss(logits.float(), y.to(params.device), "mean"))

    return loss


def length(vector: Tensor) -> float:
    """The Euclidean length, summed in float64; NaN or infinite where the vector is not finite."""
    return float(torch.linalg.vector_norm(vector.detach(), dtype=torch.float64)) if vector.numel() else 0.0


def _vectors(server: Server) -> dict[str, Tensor]:
    floating = {name: tensor for name, tensor in server.memory.items() if tensor.is_floating_point()}
    return {"parameters": server.params, "buffers": server.buffers, **floating}


def _others(lengths: dict[str, float], site: str) -> float:
    return median(length for other, length in lengths.items() if other != site)
