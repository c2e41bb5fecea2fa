"""Searching by decisions alone: points that reach the goal, and where the line back to the record leaves them.

    start      the first to reach the goal of public records, noise, the record's negative, a flat input, coarse noise
    bisected   the point nearest to the record on the way back from a point that reaches the goal

Source: Brendel et al. 2018, Decision-Based Adversarial Attacks, arXiv 1712.04248; Chen et al. 2020, HopSkipJumpAttack,
arXiv 1904.02144, algorithm 1 (the projection of either norm).
"""

from __future__ import annotations

import torch
from torch import Tensor

from consilium.core.records import Records
from consilium.learn.perturbation.ball import Norm, per_row

from ._black_box import Answers

__all__ = ["bisected", "blended", "starting_points"]

_TRIES = 25
"""Inputs that are tried as starts; up to three quarters of them are public records."""
_BLOCKS = 4
"""Blocks along each side of a picture of coarse noise, half of which are black; noise of pixels is all one class."""


def starting_points(answers: Answers, x: Tensor, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Those of ``rows`` for which one of 25 inputs reaches the goal, and that input for each of them.

    No more is asked about a record than leaves one query of its budget.  The others are noted as without a start.
    """
    public = _shuffled(answers.public, generator)
    points = torch.zeros_like(x[rows])
    waiting = torch.arange(len(rows), device=rows.device)
    for number in range(_TRIES):
        waiting = waiting[answers.remaining(rows[waiting]) > 1]
        if not len(waiting):
            break
        if number < len(public):
            points[waiting] = public[number]
        else:
            points[waiting] = _candidate(x[rows[waiting]], number - len(public), generator)
        waiting = waiting[~answers.reached(points[waiting], rows[waiting])]
    arrived = torch.ones(len(rows), dtype=torch.bool, device=rows.device).index_fill_(0, waiting, False)
    answers.stranded[rows[~arrived]] = True
    return rows[arrived], points[arrived]


def blended(x: Tensor, point: Tensor, share: Tensor, norm: Norm) -> Tensor:
    """``point`` moved towards ``x``, so that the distance is ``share (n,)`` of what it was, in either norm."""
    delta = point - x
    if norm == "l2":
        return x + delta * per_row(share, delta)
    bound = per_row(share * delta.flatten(1).abs().amax(1), delta)
    return x + delta.maximum(-bound).minimum(bound)


def bisected(answers: Answers, x: Tensor, point: Tensor, rows: Tensor, norm: Norm, halvings: int) -> Tensor:
    """``point (m, *shape)``, which reaches the goal, moved towards ``x (m, *shape)`` as far as it still does.

    It costs each record ``halvings`` queries, and fewer where its budget ends.
    """
    low, high = torch.zeros(len(x), device=x.device, dtype=x.dtype), torch.ones(len(x), device=x.device, dtype=x.dtype)
    for _ in range(halvings):
        able = torch.nonzero(answers.remaining(rows) > 0)[:, 0]
        if not len(able):
            break
        middle = (low[able] + high[able]) / 2
        reached = answers.reached(blended(x[able], point[able], middle, norm), rows[able])
        high[able], low[able] = torch.where(reached, middle, high[able]), torch.where(reached, low[able], middle)
    return blended(x, point, high, norm)


def _shuffled(public: Records | None, generator: torch.Generator) -> Tensor:
    """Some public records at random, the same for every batch that is drawn alike."""
    if public is None:
        return torch.empty(0)
    order = torch.randperm(len(public), generator=generator, device=generator.device)
    return public.x[order[: 3 * _TRIES // 4].to(public.x.device)]


def _candidate(x: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """The input that is tried as the ``number``-th for each of ``x``; what is random in it is the same for all."""
    if number == 1:
        return 1 - x
    shape = list(x.shape[1:])
    if number == 2:
        shape = [1] * len(shape)
    elif number > 2:
        shape = [min(_BLOCKS, size) if axis > 0 else size for axis, size in enumerate(shape)]
    noise, coins = (torch.rand(shape, generator=generator, device=generator.device, dtype=x.dtype) for _ in range(2))
    if number > 2:
        noise = noise * (coins < 0.5)
    noise = noise.to(x.device)
    for axis, (size, most) in enumerate(zip(shape, x.shape[1:], strict=True)):
        noise = noise.index_select(axis, torch.arange(most, device=x.device) * size // most)
    return noise.expand_as(x)
