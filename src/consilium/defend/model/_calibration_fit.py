"""The scale and the bias per class under which logits say best what is true: maximum likelihood, by Newton's method.

    minimise over a, b     sum_i  -log softmax(a z_i + b)_{y_i}  +  ridge (a^2 s^2 + |b|^2) / 2

It is convex.  ``s``, the spread of the logits, makes the small ridge the same for logits of any scale; it keeps the fit
finite where the records are told apart without an error, and picks the one of all equal biases that sums to 0.

Source: Alexandari et al. 2020, arXiv 1901.06852 (bias-corrected temperature scaling)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["CalibrationFit", "fit_calibration"]

_RIDGE, _LEAST, _STEPS, _SETTLED = 1e-2, 1e-3, 200, 1e-9
"""A prior of deviation 10; the least scale, of logits of spread 1; Newton's steps at most; a step that ends them."""


@dataclass(frozen=True, eq=False)
class CalibrationFit:
    """``scale`` and ``bias (classes,)`` in float64, and their standard deviations by the likelihood's curvature."""

    scale: float
    bias: Tensor
    scale_deviation: float
    bias_deviation: Tensor


def fit_calibration(logits: Tensor, y: Tensor, scaled: bool = True, biased: bool = True) -> CalibrationFit:
    """The best scale (1 unless ``scaled``) and bias (0 unless ``biased``) of ``logits (n, classes)`` for classes ``y``.

    A scale is above 0: where the logits rank worse than chance, it is the least.
    """
    z = logits.double()
    z = z - z.mean(1, keepdim=True)
    spread = float(z.std()) if z.numel() > 1 else 0.0
    scaled = scaled and spread > 0
    problem = _Likelihood(z / (spread or 1.0), y)
    at = torch.zeros(1 + z.shape[1], dtype=torch.float64)
    at[0] = spread or 1.0
    at, deviation = _fitted(problem, at, torch.tensor([scaled, *[biased] * z.shape[1]]))
    if scaled and float(at[0]) < _LEAST:
        at[0] = _LEAST
        at, deviation = _fitted(problem, at, torch.tensor([False, *[biased] * z.shape[1]]))
    unit = spread or 1.0
    return CalibrationFit(float(at[0]) / unit, at[1:], float(deviation[0]) / unit, deviation[1:])


@dataclass(frozen=True, eq=False)
class _Likelihood:
    """Minus the penalised log-likelihood as a function of ``(a, b_1, ..., b_classes)``."""

    z: Tensor
    y: Tensor

    def value(self, at: Tensor) -> float:
        return float(F.cross_entropy(at[0] * self.z + at[1:], self.y, reduction="sum") + _RIDGE * at.square().sum() / 2)

    def derivatives(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient ``(d,)`` and Hessian ``(d, d)``."""
        p = F.softmax(at[0] * self.z + at[1:], 1)
        off = p - F.one_hot(self.y, p.shape[1])
        gradient = torch.cat([(off * self.z).sum()[None], off.sum(0)]) + _RIDGE * at
        mean = (p * self.z).sum(1, keepdim=True)
        across = (p * (self.z - mean)).sum(0)
        hessian = torch.diag(torch.full_like(at, _RIDGE))
        hessian[0, 0] += (p * (self.z - mean).square()).sum()
        hessian[0, 1:] += across
        hessian[1:, 0] += across
        hessian[1:, 1:] += torch.diag(p.sum(0)) - p.T @ p
        return gradient, hessian


def _fitted(problem: _Likelihood, at: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """The minimum over the coordinates that are ``free``, and the deviations there, 0 of those that are not."""
    at = at.clone()
    for _ in range(_STEPS if bool(free.any()) else 0):
        gradient, hessian = problem.derivatives(at)
        step = torch.zeros_like(at)
        step[free] = torch.linalg.solve(hessian[free][:, free], gradient[free])
        at = _descended(problem, at, step, float(gradient @ step))
        if float(step.abs().max()) < _SETTLED:
            break
    covariance = torch.zeros(len(at), len(at), dtype=at.dtype)
    if bool(free.any()):
        covariance[free.outer(free)] = torch.linalg.inv(problem.derivatives(at)[1][free][:, free]).flatten()
    centred = torch.eye(len(at), dtype=at.dtype)
    centred[1:, 1:] -= 1 / (len(at) - 1)  # the ridge alone fixes the sum of the biases, which changes no answer
    return at, (centred @ covariance @ centred).diagonal().clamp_min(0).sqrt()


def _descended(problem: _Likelihood, at: Tensor, step: Tensor, slope: float) -> Tensor:
    """``at`` moved against ``step`` as far as the value falls by a share of what the slope promises."""
    before, length = problem.value(at), 1.0
    while length > 1e-10 and problem.value(at - length * step) > before - 1e-4 * length * slope:
        length /= 2
    return at - length * step if length > 1e-10 else at
