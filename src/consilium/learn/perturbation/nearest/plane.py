"""The nearest point of a plane within the box [0, 1]: exact, by sorting where each feature meets its bound.

    min |d|_p  with  w d = c  and  t + d in [0, 1].   With r_j the room of feature j in the direction of w_j c:
    l2    d_j = min(s |w_j|, r_j)    linf  d_j = min(s, r_j)     l1    the features of largest |w_j| take all their room

w d rises with s in straight pieces that change where a feature meets its bound.  Where even the corner of the box does
not reach the plane, d goes to that corner.

Source: Croce and Hein 2020, Minimally distorted adversarial examples, arXiv 1907.02044 (section 3.1: the problem)
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.learn.perturbation.ball import ConvexNorm, tiny

__all__ = ["to_plane"]


def to_plane(points: Tensor, normals: Tensor, rises: Tensor, norm: ConvexNorm) -> Tensor:
    """The smallest changes ``(n, d)`` of ``points (n, d)`` by which ``normals * change`` sums to ``rises (n,)``."""
    signs = normals.sign() * torch.where(rises < 0, -1, 1).to(normals.dtype)[:, None]
    slopes, needed = normals.abs(), rises.abs()
    room = torch.where(signs > 0, 1 - points, points) * (slopes > 0)
    return signs * (_greedy(slopes, room, needed) if norm == "l1" else _even(slopes, room, needed, norm))


def _even(slopes: Tensor, room: Tensor, needed: Tensor, norm: ConvexNorm) -> Tensor:
    """All features at once: d_j = min(s p_j, r_j), with the pace p_j = |w_j| by "l2" and 1 by "linf"."""
    pace = slopes if norm == "l2" else (slopes > 0).to(slopes.dtype)
    stops = (room / pace.clamp_min(tiny(pace))).where(slopes > 0, torch.zeros_like(room))
    order = stops.argsort(dim=1)
    stop = stops.gather(1, order)
    full = (slopes * room).gather(1, order).cumsum(1)
    rate = (slopes * pace).gather(1, order)
    moving = rate.flip(1).cumsum(1).flip(1) - rate  # of the features behind, which have room left
    beyond = (full + stop * moving < needed[:, None]).sum(1, keepdim=True)  # stops that are not far enough
    before = (beyond - 1).clamp_min(0)
    some = (beyond > 0).to(slopes.dtype)
    rest = needed[:, None] - some * full.gather(1, before)
    total = torch.where(beyond > 0, moving.gather(1, before), rate.sum(1, keepdim=True))
    scale = rest / total.clamp_min(tiny(total))
    scale = torch.where(beyond >= slopes.shape[1], torch.full_like(scale, float("inf")), scale.clamp_min(0))
    return torch.minimum((scale * pace).nan_to_num(0, posinf=float("inf")), room)


def _greedy(slopes: Tensor, room: Tensor, needed: Tensor) -> Tensor:
    """The features of largest slope take all their room, the last of them what is left to do."""
    order = slopes.argsort(dim=1, descending=True)
    gains = (slopes * room).gather(1, order)
    rest = (needed[:, None] - (gains.cumsum(1) - gains)).clamp_min(0)
    sorted_slopes = slopes.gather(1, order)
    moves = torch.minimum(rest / sorted_slopes.clamp_min(tiny(slopes)), room.gather(1, order))
    return torch.zeros_like(room).scatter(1, order, moves)
