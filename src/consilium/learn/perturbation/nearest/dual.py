"""Norms, row by row: how long a perturbation is, how steep a plane, and the nearest perturbation of a given size.

distance of a point to the plane {z : gap + w (z - x) = 0}:   |gap| / |w|_q,   1/p + 1/q = 1
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from consilium.learn.perturbation.ball import AnyNorm, per_row, tiny
from consilium.learn.perturbation.l2 import L2

__all__ = ["along", "dual_size", "limited_rows"]

_DUAL: Mapping[AnyNorm, float] = {"linf": 1, "l2": 2, "l1": math.inf, "l0": math.inf}


def dual_size(gradient: Tensor, norm: AnyNorm) -> Tensor:
    """The size ``(n,)`` of each ``gradient (n, *shape)`` by the norm dual to ``norm``."""
    size: Tensor = torch.linalg.vector_norm(gradient.flatten(1), ord=_DUAL[norm], dim=1)
    return size


def along(gradient: Tensor, norm: AnyNorm) -> Tensor:
    """The direction ``(n, *shape)`` of size one by ``norm``, "linf" or "l2", along which a plane is nearest."""
    return gradient.sign() if norm == "linf" else L2(0).steepest(gradient)


def limited_rows(delta: Tensor, norm: AnyNorm, radii: Tensor) -> Tensor:
    """Each perturbation ``(n, *shape)``, moved to the nearest one of its own size ``radii (n,)`` or less."""
    if norm == "linf":
        return torch.minimum(torch.maximum(delta, -per_row(radii, delta)), per_row(radii, delta))
    if norm == "l2":
        size = torch.linalg.vector_norm(delta.flatten(1), dim=1)
        return delta * per_row((radii / size.clamp_min(tiny(size))).clamp_max(1), delta)
    return _lowered(delta, radii) if norm == "l1" else _few(delta, radii)


def _lowered(delta: Tensor, radii: Tensor) -> Tensor:
    """By one threshold a row, such that the sizes sum to the radius (Duchi et al. 2008)."""
    sizes = delta.flatten(1).abs()
    falling = sizes.sort(dim=1, descending=True).values
    count = torch.arange(1, sizes.shape[1] + 1, device=delta.device)
    surplus = falling.cumsum(1) - radii[:, None]
    used = (falling * count > surplus).sum(1, keepdim=True).clamp_min(1)
    threshold = (surplus.gather(1, used - 1) / used).clamp_min(0)
    return ((sizes - threshold).clamp_min(0)).view_as(delta) * delta.sign()


def _few(delta: Tensor, radii: Tensor) -> Tensor:
    """The largest changes of each row, ``radii`` of them."""
    places = delta.flatten(1).abs().argsort(dim=1, descending=True)
    ranks = torch.empty_like(places).scatter_(1, places, torch.arange(places.shape[1]).expand_as(places))
    return delta * (ranks < radii[:, None]).view_as(delta)
