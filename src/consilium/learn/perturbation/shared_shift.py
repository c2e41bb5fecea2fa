"""One perturbation for many inputs: ascent of the gap to the goal, averaged over the records not yet there.

    v <- P_ball(v + a u(mean over a batch of grad gap(x + v), where it is below its cap))

The step a falls linearly to 0.  Records whose gap is above the cap are fooled, and pull no further.

Source: Moosavi-Dezfooli et al. 2017, Universal Adversarial Perturbations, arXiv 1610.08401 (the problem);
Shafahi et al. 2020, Universal Adversarial Training, arXiv 1811.11304 (algorithm 2: batches, and a capped loss)
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.learn.rounding import rounding

from .ball import Ball
from .nearest.boundary import Boundary

__all__ = ["shared_shift"]


def shared_shift(
    boundary: Boundary, x: Tensor, y: Tensor, *, ball: Ball, epochs: int, batch: int, generator: torch.Generator
) -> Tensor:
    """A perturbation ``(*shape)`` in the ``ball`` that moves the records ``x (n, *shape)`` to the goal."""
    shift, batches = torch.zeros_like(x[:1]), max(1, -(-len(x) // batch))
    total, count = epochs * batches, 0
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator, device=generator.device).to(x.device)
        for rows in order.split(batch):
            length = 2.5 * ball.radius * (1 - count / total) / max(1, min(total, 20))
            gradient = _mean_slope(boundary, x[rows], y[rows], shift)
            shift = ball.limited(shift + length * ball.steepest(gradient))
            count += 1
    return shift[0]


def _mean_slope(boundary: Boundary, x: Tensor, y: Tensor, shift: Tensor) -> Tensor:
    """The gradient ``(1, *shape)`` in the shift, of the records that have not passed the goal by more than rounding."""
    leaf, logits = boundary.answers((x + shift).clamp(0, 1))
    with torch.enable_grad():
        gaps = boundary.goal.climbed(boundary.loss, logits, y)
        going = gaps.detach() <= _CAP * rounding(logits)
        (gradient,) = torch.autograd.grad((gaps * going).sum(), leaf)
    return gradient.nan_to_num().mean(0, keepdim=True)


_CAP = 1e4
"""In units of rounding: a lead of a tenth of the largest logit."""
