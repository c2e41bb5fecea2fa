"""Whether a perturbation does anything, and leaves anything: a ball that covers all of [0, 1] bounds nothing.

Under such a radius every input may become any other, so a robust accuracy says nothing of robustness, and a model that
is trained so learns from noise.  Whoever means 8/255 writes 8.  A ball smaller than the steps of single precision moves
no input of the upper half of [0, 1] at all, and the clean accuracy is printed as a robust one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from consilium.core.entry import Entry
from consilium.core.errors import Refused
from consilium.core.rounding import round_down
from consilium.learn.perturbation.ball import Ball
from consilium.study.spec.spec import Spec

__all__ = ["check_radii"]

_GREY = 255
"""Levels of a byte, in which radii are often given."""
_FINEST = 2.0**-24
"""The distance of neighbours in [0.5, 1] in single precision."""


def check_radii(spec: Spec, shape: tuple[int, ...]) -> None:
    """Check the ball of every attack, corruption and defence against inputs of ``shape``.

    Raises Refused: a ball that covers every input, or one that is lost in rounding.
    """
    features = math.prod(shape)
    for where, entry in _entries(spec):
        limited = getattr(entry, "limited_by_ball", True)
        ball = entry.ball() if limited and hasattr(entry, "ball") else None
        if isinstance(ball, Ball) and ball.radius >= ball.diameter(features):
            raise _covering(entry, ball, features, where)
        if isinstance(ball, Ball) and 0 < ball.radius < _FINEST:
            raise Refused(
                f"{entry.kind()} with radius {ball.radius:g} moves nothing: in single precision, numbers from 0.5 to 1 "
                f"lie {_FINEST:.3g} apart",
                remedy="use a radius that can be seen, such as 1/255 = 0.00392 (one grey level)",
                where=where,
            )


def _entries(spec: Spec) -> Iterator[tuple[str, Entry]]:
    """Everything that a study names and that may perturb inputs, with its place."""
    yield from ((f"attacks[{i}]", entry.attack) for i, entry in enumerate(spec.attacks))
    yield from ((f"corruptions[{i}]", entry.corruption) for i, entry in enumerate(spec.corruptions))
    for axis, choices in spec.vary.items():
        for choice in choices:
            yield from ((f"vary.{axis}: {choice.label}", defence) for defence in choice.defences)


def _covering(entry: Entry, ball: Ball, features: int, where: str) -> Refused:
    widest = ball.diameter(features)
    bytes_meant = ball.norm == "linf" and float(ball.radius).is_integer() and ball.radius <= _GREY
    remedy = f"use a radius below {round_down(widest)}"
    if bytes_meant:
        remedy += f", such as {ball.radius:g}/{_GREY} = {ball.radius / _GREY:.3g}"
    return Refused(
        f"{entry.kind()} with radius {ball.radius:g} may turn every input into any other: inputs lie in [0, 1], and "
        f"the largest {ball.norm} distance between two of {features} features is {round_down(widest)}",
        remedy=remedy,
        where=where,
    )
