"""How far a perturbation may go: a ball around an input, cut with [0, 1].

A ball measures a perturbation, projects a point into itself, returns the direction in which a linear function rises
fastest for a step of size one, and draws points uniformly.  Every example is treated on its own, so what an attack or a
defence makes of one record depends on no other (LAWS 5).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

__all__ = ["AnyNorm", "Ball", "ConvexNorm", "Norm", "per_row", "stopped", "tiny"]

Norm = Literal["linf", "l2"]
"""The norms that the attacks and defences of the catalogue use."""
ConvexNorm = Literal["linf", "l2", "l1"]
"""Those whose ball is convex: a walk of projected steps gets anywhere in it."""
AnyNorm = Literal["linf", "l2", "l1", "l0"]


@dataclass(frozen=True)
class Ball(ABC):
    """All points within ``radius`` of an input ``(n, *shape)`` in [0, 1], by ``norm``, that are in [0, 1] too."""

    norm: ClassVar[AnyNorm]
    radius: float

    @abstractmethod
    def size(self, delta: Tensor) -> Tensor:
        """The size ``(n,)`` of each perturbation ``(n, *shape)``."""

    @abstractmethod
    def diameter(self, features: int) -> float:
        """The size of the largest change between two inputs of so many features in [0, 1]."""

    @abstractmethod
    def limited(self, delta: Tensor) -> Tensor:
        """Each perturbation ``(n, *shape)``, moved to the nearest one of size ``radius`` or less."""

    @abstractmethod
    def steepest(self, gradient: Tensor, point: Tensor | None = None) -> Tensor:
        """The direction ``(n, *shape)`` of size at most one along which a step rises fastest; zero for a zero.

        Where few features move, those of ``point`` that 0 or 1 would stop are passed over.
        """

    @abstractmethod
    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A random perturbation ``(n, *shape)`` of ``x`` in the ball, drawn on the generator's device."""

    def project(self, point: Tensor, x: Tensor) -> Tensor:
        """``point (n, *shape)`` moved into the ball around ``x`` and into [0, 1].

        Clipping to [0, 1] last never leaves the ball again, because x is in [0, 1].
        """
        return (x + self.limited(point - x)).clamp(0, 1)

    @final
    def random_start(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A random point of the ball around ``x``."""
        return self.project(x + self.draw(x, generator), x)

    @final
    def step_size(self, steps: int) -> float:
        """A step with which ``steps`` steps reach any point of the ball from any other, and half as far again.

        Source: Madry et al. 2018, arXiv 1706.06083 (2.5 radius / steps)
        """
        return 2.5 * self.radius / steps


def stopped(gradient: Tensor, point: Tensor | None) -> Tensor:
    """``gradient``, zero at the features of ``point`` that stand at 0 or 1 and would be driven beyond."""
    if point is None:
        return gradient
    return gradient.masked_fill(((point <= 0) & (gradient < 0)) | ((point >= 1) & (gradient > 0)), 0)


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """``values (n,)`` in a shape that broadcasts over ``like (n, *shape)``."""
    return values.view(-1, *[1] * (like.dim() - 1))


def tiny(like: Tensor) -> float:
    """The smallest normal number of the type of ``like``: a divisor that never is zero."""
    return float(torch.finfo(like.dtype).tiny)
