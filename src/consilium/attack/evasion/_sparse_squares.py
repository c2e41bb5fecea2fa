"""The moves of the square attack in the ball of the sum of all changes, and those of every norm.

As in l2 the change of one square moves to another as two opposed bumps, and they are steeper; what is not used of the
radius is added, and the nearest point of ball and [0, 1] is taken in the end.

Source: Croce and Hein 2021, Mind the Box, arXiv 2103.01208 (section 4: l1-Square Attack)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from consilium.learn.perturbation.ball import ConvexNorm
from consilium.learn.perturbation.l1_box import L1Box

from ._squares import LinfMoves, Moves, SquareL2Moves

__all__ = ["MOVES", "SquareL1Moves"]

_SMALL = 1e-12


@dataclass(frozen=True)
class SquareL1Moves(SquareL2Moves):
    """The change within one square is taken away and spent, with what is not used of the radius, in another."""

    def moved(self, x: Tensor, best: Tensor, height: int, width: int) -> Tensor:
        """The sum of the changes of both squares goes to one of them."""
        height, width = (min(max(3, s), most) for s, most in zip((height, width), x.shape[2:], strict=True))
        here, there = ((..., *self.place(x, height, width)) for _ in range(2))
        delta = best - x
        unused = (self.radius - delta.abs().sum((1, 2, 3), keepdim=True)).clamp_min(0)
        old = delta[here].clone()
        both = old.abs().sum((2, 3), keepdim=True)
        bump = self.bump(x, height, width) * self.signs(x, 1, x.shape[1], 1, 1) + old / both.clamp_min(_SMALL)
        delta[here] = 0
        both = both + delta[there].abs().sum((2, 3), keepdim=True)
        delta[there] = 0
        total = bump.abs().sum((2, 3), keepdim=True)
        delta[here] = bump / total.clamp_min(_SMALL) * (unused / x.shape[1] + both)
        return self.stretched(x, delta)

    def stretched(self, x: Tensor, delta: Tensor) -> Tensor:
        """The nearest point of ball and [0, 1]."""
        return L1Box(self.radius).project(x + delta, x)

    def ring_height(self, ring: Tensor) -> Tensor:
        """1 / k^4."""
        return ring**-4

    def length(self, bump: Tensor) -> Tensor:
        """The sum."""
        return bump.abs().sum()


MOVES: Mapping[ConvexNorm, type[Moves]] = {"linf": LinfMoves, "l2": SquareL2Moves, "l1": SquareL1Moves}
"""The moves in the ball of each norm."""
