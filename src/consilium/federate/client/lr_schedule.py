"""The learning rate over the rounds, as a factor of the algorithm's own ``lr``.

    warm-up   r / W                      in rounds r = 1 .. W
    constant  1                          then, with t = (r - W - 1) / (R - W)
    cosine    (1 + cos(pi t)) / 2
    linear    1 - t

All steps of one round share a rate.  It depends on the round alone, so it costs no privacy.

Source: Loshchilov & Hutter 2017, arXiv 1608.03983 (cosine); Goyal et al. 2017, arXiv 1706.02677 (warm-up)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

from consilium.core.algorithm import Algorithm
from consilium.core.errors import Refused

__all__ = ["LRSchedule"]


@dataclass(frozen=True)
class LRSchedule:
    """A shape over ``rounds`` R, after ``warm_up`` W of them."""

    shape: Literal["constant", "cosine", "linear"] = "constant"
    warm_up: int = 0
    rounds: int = 1

    @property
    def flat(self) -> bool:
        """True if it is the algorithm's own in every round."""
        return self.shape == "constant" and self.warm_up == 0

    def factor(self, number: int) -> float:
        """In round ``number``, from 1."""
        if number <= self.warm_up:
            return number / self.warm_up
        progress = (number - self.warm_up - 1) / max(1, self.rounds - self.warm_up)
        return {"constant": 1.0, "cosine": (1 + math.cos(math.pi * progress)) / 2, "linear": 1 - progress}[self.shape]

    def at(self, algorithm: Algorithm, number: int) -> Algorithm:
        """``algorithm`` with the rate of round ``number``; refused if it has no ``lr``.

        Raises Refused: the algorithm has no ``lr``.
        """
        if self.flat:
            return algorithm
        if "lr" not in {f.name for f in fields(algorithm)}:
            raise Refused(f"{algorithm.kind()} has no lr to schedule", remedy="leave out federation.lr-schedule")
        changed: dict[str, float] = {"lr": vars(algorithm)["lr"] * self.factor(number)}
        return replace(algorithm, **changed)
