"""Whether a perturbation leaves anything of its input: a ball that covers all of [0, 1] bounds nothing.

Under such a radius every input may become any other, so a robust accuracy says nothing of robustness, and a model that
is trained so learns from noise.  Whoever means 8/255 writes 8.
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


def check_radii(spec: Spec, shape: tuple[int, ...]) -> None:
    """Refused: an attack, corruption or defence whose ball covers every input of ``shape``."""
    features = math.prod(shape)
    for where, entry in _entries(spec):
        ball = entry.ball() if hasattr(entry, "ball") else None
        if isinstance(ball, Ball) and ball.radius >= ball.diameter(features):
            raise _covering(entry, ball, features, where)


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
