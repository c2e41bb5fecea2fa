"""The ball of the sum of all changes and [0, 1] together: the nearest point of both, and sparse steps.

    z = x + sign(d) min(max(|d| - t, 0), room)       d = point - x, room = what 0 or 1 leaves on the side of d

with t = 0 where that is in the ball, else such that the changes sum to the radius.  The projection onto the ball, cut
afterwards, gives changes that 0 and 1 take away and leaves them unused; a step along a few features then goes nowhere.

Source: Croce and Hein 2021, Mind the Box: l1-APGD for Sparse Adversarial Attacks on Image Classifiers, arXiv 2103.01208
(proposition 2.1)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .ball import tiny
from .l1 import L1

__all__ = ["L1Box", "sparse_signs"]


@dataclass(frozen=True)
class L1Box(L1):
    """The ball ``L1``, with the nearest point of ball and [0, 1] as its projection."""

    def project(self, point: Tensor, x: Tensor) -> Tensor:
        """The point of ball and [0, 1] that is nearest to ``point (n, *shape)``; ``x`` is in [0, 1]."""
        delta = (point - x).flatten(1)
        sizes, room = delta.abs(), torch.where(delta > 0, 1 - x.flatten(1), x.flatten(1))
        threshold = _threshold(sizes, room, self.radius)
        used = torch.minimum((sizes - threshold).clamp_min(0), room)
        # Rounding of a long sum may leave a little more than the radius.
        total = used.sum(1, keepdim=True)
        used = torch.where(total > self.radius, used * (self.radius / total.clamp_min(tiny(total))), used)
        return (x + (used * delta.sign()).view_as(x)).clamp(0, 1)


def sparse_signs(gradient: Tensor, counts: Tensor) -> Tensor:
    """The signs ``(n, *shape)`` of the ``counts (n,)`` features of largest derivative, over their number.

    Features as large as the last one are among them.
    """
    flat = gradient.flatten(1)
    sizes = flat.abs()
    largest = sizes.topk(int(counts.max()) if len(counts) else 1, dim=1).values
    signs = flat.sign() * (sizes >= largest.gather(1, counts[:, None] - 1))
    return (signs / signs.abs().sum(1, keepdim=True).clamp_min(1)).view_as(gradient)


def _threshold(sizes: Tensor, room: Tensor, radius: float) -> Tensor:
    """By how much ``(n, 1)`` all changes are lowered for their sum to be ``radius``; 0 where it is not above.

    The sum falls with the threshold in straight lines: at ``sizes - room`` a change leaves its end, at ``sizes`` it is
    gone.
    """
    places, order = torch.cat([sizes - room, sizes], 1).sort(dim=1)
    falling = torch.where(order < sizes.shape[1], 1, -1).cumsum(1)
    lengths = places.diff(dim=1)
    first = room.sum(1, keepdim=True, dtype=torch.double)
    sums = torch.cat([first, first - (falling[:, :-1] * lengths).cumsum(1, dtype=torch.double)], 1)
    last = ((sums > radius).sum(1, keepdim=True) - 1).clamp_min(0)
    beyond = (sums.gather(1, last) - radius) / falling.gather(1, last).clamp_min(1)
    return (places.gather(1, last) + beyond.to(places)).clamp_min(0)
