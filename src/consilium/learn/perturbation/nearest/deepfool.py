"""DeepFool: to the nearest of the planes that bound the right class in a linear model of the network, step by step.

    x <- x + (1 + overshoot) |f_k| / |w_k|_q u(w_k),   f_k = z_k - z_y,  w_k = its gradient,  k = argmin |f_k| / |w_k|_q

A step first asks which records have arrived and drops them, so that the gradients of all classes, which are nearly all
of the cost, are worked out for the others alone.  Another goal than a wrong class has one plane, that of its gap.

Source: Moosavi-Dezfooli, Fawzi and Frossard 2016, DeepFool, arXiv 1511.04599
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from consilium.learn.perturbation.ball import Norm, per_row
from consilium.learn.perturbation.goals import Misclassification

from .boundary import Boundary
from .dual import along, dual_size

__all__ = ["deepfool"]

_LEAST = 1e-4
"""Added to each distance, as the authors do: a step of 0 arrives nowhere."""


def deepfool(boundary: Boundary, x: Tensor, y: Tensor, *, norm: Norm, steps: int, overshoot: float) -> Tensor:
    """The first point ``(n, *shape)`` of each record's walk that reaches the goal; else the last one."""
    points, alive = x.clone(), torch.arange(len(x), device=x.device)
    for step in range(steps):
        if step:
            alive = alive[~boundary.reached(points[alive], y[alive])]
        if not len(alive):
            break
        normals, distances = _nearest_plane(boundary, points[alive], y[alive], norm)
        leads = distances.isfinite()
        alive, normals, distances = alive[leads], normals[leads], distances[leads]
        stride = per_row((1 + overshoot) * (distances + _LEAST), normals)
        points[alive] = (points[alive] + stride * along(normals, norm)).clamp(0, 1)
    return points


def _nearest_plane(boundary: Boundary, points: Tensor, y: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """Its normal ``(n, *shape)``, towards the goal, and its distance ``(n,)``: infinite where nothing leads to it."""
    leaf, logits = boundary.answers(points)
    exclusive = isinstance(boundary.goal, Misclassification) and boundary.goal.task.exclusive
    count = logits.shape[1] - 1 if exclusive else 1
    normals, distances = torch.zeros_like(points), torch.full_like(points.flatten(1)[:, 0], math.inf)
    for number in range(1, count + 1):
        with torch.enable_grad():
            gaps = _lead(logits, y, number) if exclusive else boundary.goal.climbed(boundary.loss, logits, y)
            (gradient,) = torch.autograd.grad(gaps.sum(), leaf, retain_graph=number < count)
        size = dual_size(gradient, norm)
        distance = (gaps.detach().abs() / size).nan_to_num(math.inf, posinf=math.inf)
        nearer = distance < distances
        distances = torch.where(nearer, distance, distances)
        normals = torch.where(per_row(nearer, normals), gradient, normals)
    return normals, distances


def _lead(logits: Tensor, y: Tensor, number: int) -> Tensor:
    """z_k - z_y ``(n,)`` of the ``number``-th class k after y."""
    classes = torch.stack([y, (y + number) % logits.shape[1]], 1)
    right, other = logits.gather(1, classes).unbind(1)
    return other - right
