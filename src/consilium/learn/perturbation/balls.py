"""A ball by the name of its norm, as studies name it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .ball import AnyNorm, Ball
from .l0 import L0
from .l1 import L1
from .l2 import L2
from .linf import Linf

__all__ = ["ball_of", "size_of"]

_BALLS: Mapping[AnyNorm, type[Ball]] = {"linf": Linf, "l2": L2, "l1": L1, "l0": L0}


def ball_of(norm: AnyNorm, radius: float) -> Ball:
    """The ball of ``radius`` by ``norm``."""
    return _BALLS[norm](radius)


def size_of(delta: Tensor, norm: AnyNorm) -> Tensor:
    """The size ``(n,)`` of each perturbation ``(n, *shape)`` by ``norm``."""
    return ball_of(norm, 0).size(delta)
