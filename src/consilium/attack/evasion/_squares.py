"""The moves of the square attack: a random start, and a square changed at random, in the balls linf and l2.

All records of a batch try the same place with the same signs, drawn at once, so that what becomes of a record depends
on no other.  Pictures are ``(n, channels, height, width)``.

Source: Andriushchenko et al. 2020, Square Attack, arXiv 1912.00049, algorithms 2 and 3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from consilium.learn.perturbation.ball import tiny

__all__ = ["LinfMoves", "Moves", "SquareL2Moves"]

_SMALL = 1e-12


@dataclass(frozen=True)
class Moves(ABC):
    """Random moves in the ball of ``radius``, drawn from ``generator``."""

    radius: float
    generator: torch.Generator

    @abstractmethod
    def start(self, x: Tensor) -> Tensor:
        """A first point for each picture of ``x``."""

    @abstractmethod
    def moved(self, x: Tensor, best: Tensor, height: int, width: int) -> Tensor:
        """``best`` with a square of that ``height`` and ``width`` changed."""

    def signs(self, like: Tensor, *shape: int) -> Tensor:
        """-1 or 1, of the type of ``like``."""
        bits = torch.randint(2, shape, generator=self.generator, device=self.generator.device)
        return (2 * bits - 1).to(like)

    def place(self, like: Tensor, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a square somewhere in the picture."""
        spans = []
        for length, size in zip(like.shape[2:], (height, width), strict=True):
            places = length - size + 1
            first = int(torch.randint(places, (1,), generator=self.generator, device=self.generator.device))
            spans.append(slice(first, first + size))
        return spans[0], spans[1]


@dataclass(frozen=True)
class LinfMoves(Moves):
    """Each channel of the square goes to one end of the ball."""

    def start(self, x: Tensor) -> Tensor:
        """Stripes of one column."""
        return (x + self.radius * self.signs(x, 1, x.shape[1], 1, x.shape[3])).clamp(0, 1)

    def moved(self, x: Tensor, best: Tensor, height: int, width: int) -> Tensor:
        """The square at one end; at the other for the records where it is there already."""
        place = (..., *self.place(x, height, width))
        step, before, centre = self.radius * self.signs(x, 1, x.shape[1], 1, 1), best[place], x[place]
        after = (centre + step).clamp_(0, 1)
        same = (after == before).flatten(1).all(1)
        if bool(same.any()):
            after[same] = (centre[same] - step).clamp_(0, 1)
        point = best.clone()
        point[place] = after
        return point


@dataclass(frozen=True)
class SquareL2Moves(Moves):
    """The change within one square is taken away and what it had of the length is spent in another."""

    def start(self, x: Tensor) -> Tensor:
        """Bumps on a grid of five by five squares."""
        delta = torch.zeros_like(x)
        height, width = (max(1, length // 5) for length in x.shape[2:])
        for top in range(0, x.shape[2] - height + 1, height):
            for column in range(0, x.shape[3] - width + 1, width):
                signs = self.signs(x, 1, x.shape[1], 1, 1)
                delta[:, :, top : top + height, column : column + width] = self.bump(x, height, width) * signs
        return self.stretched(x, delta)

    def moved(self, x: Tensor, best: Tensor, height: int, width: int) -> Tensor:
        """The length of the square that is emptied, and what is not used of the radius, go to the other one."""
        height, width = (min(max(3, s), most) for s, most in zip((height, width), x.shape[2:], strict=True))
        here, there = ((..., *self.place(x, height, width)) for _ in range(2))
        delta = best - x
        unused = (self.radius**2 - delta.square().sum((1, 2, 3), keepdim=True)).clamp_min(0) / x.shape[1]
        old = delta[here].clone()
        both = old.square().sum((2, 3), keepdim=True)
        size = both.sqrt()
        delta[here] = 0
        both = both + delta[there].square().sum((2, 3), keepdim=True)
        delta[there] = 0
        bump = self.bump(x, height, width) * self.signs(x, 1, x.shape[1], 1, 1) + old / size.clamp_min(_SMALL)
        length = bump.square().sum((2, 3), keepdim=True).sqrt()
        delta[here] = bump / length.clamp_min(_SMALL) * (unused + both).sqrt()
        return self.stretched(x, delta)

    def stretched(self, x: Tensor, delta: Tensor) -> Tensor:
        """A change of the full length, before it is cut to [0, 1]."""
        length = delta.square().sum((1, 2, 3), keepdim=True).sqrt()
        return (x + delta * (self.radius / length.clamp_min(tiny(length)))).clamp(0, 1)

    def bump(self, like: Tensor, height: int, width: int) -> Tensor:
        """Two opposed bumps side by side or one above the other, of length one, ``(height, width)``."""
        if bool(self.signs(like, 1) > 0):
            return self.opposed(like, width, height).T
        return self.opposed(like, height, width)

    def ring_height(self, ring: Tensor) -> Tensor:
        """Of a bump, at its ``ring`` from 1: 1 / k^2."""
        return 1 / ring**2

    def length(self, bump: Tensor) -> Tensor:
        """The Euclidean length."""
        return bump.square().sum().sqrt()

    def opposed(self, like: Tensor, height: int, width: int) -> Tensor:
        """The upper half one bump, the lower half another of opposite sign."""
        upper = height // 2
        bumps = [self.hill(like, upper, width)] if upper else []
        both = torch.cat([*bumps, -self.hill(like, height - upper, width)])
        return both / self.length(both)

    def hill(self, like: Tensor, height: int, width: int) -> Tensor:
        """Falling from the middle: sum over the rings around it of their heights, of length one."""
        down = (torch.arange(height, device=like.device) - height // 2).abs()
        across = (torch.arange(width, device=like.device) - width // 2).abs()
        ring = torch.maximum(down[:, None], across[None]).to(like)
        rings = int(max(height, width)) // 2 + 1
        heights = self.ring_height(torch.arange(1, rings + 1, device=like.device).to(like))
        values = torch.stack([(ring <= k) * heights[k] for k in range(rings)]).sum(0)
        return values / self.length(values)
