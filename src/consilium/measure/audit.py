"""The least epsilon that a training can have had, from guesses of which canaries were in it: one run, no assumption.

m canaries are each in by a fair coin.  An adversary with the released model abstains on some and guesses k; v are
right.  If the training is (epsilon, delta)-private for one canary more or less, then for any adversary

    P[right >= v] <= P[W >= v] + 2 m delta max_i P[v > W >= v - i] / i,   W ~ Binomial(k, 1 / (1 + e^-epsilon))

The bound is the least epsilon at which this is not below 1 - confidence.  k is to be fixed beforehand; among several k
the best is taken and each held to (1 - confidence) / their number (Bonferroni).

Source: Steinke, Nasr and Jagielski 2023, Privacy Auditing with One (1) Training Run, arXiv 2305.08846, theorem 5.2
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special
from torch import Tensor

from consilium.core.errors import Refused

__all__ = ["Bound", "least_above", "one_run", "one_run_bound", "p_value"]

_DIGITS = 1e-6


@dataclass(frozen=True)
class Bound:
    """A lower bound of epsilon, and the guesses that it rests on: ``right`` of ``guesses`` among ``canaries``.

    ``assumption`` is ``none`` where it holds for any training, else what it takes for granted.
    """

    epsilon: float
    delta: float
    confidence: float
    canaries: int
    included: int
    guesses: int
    right: int
    assumption: str = "none"


def one_run(scores: Tensor, included: Tensor, *, delta: float, confidence: float, shares: Sequence[float]) -> Bound:
    """The bound from ``scores (m,)``, the higher the likelier in, and the coins ``included (m,)``.

    For every share s the round(s m / 2) highest are guessed to be in and as many lowest to be out.

    Raises Refused: shapes differ, a score is not finite, or there are fewer than two canaries.
    """
    values, truth = scores.detach().double().cpu(), included.bool().cpu()
    if values.shape != truth.shape or values.dim() != 1 or not len(values):
        raise Refused(f"scores {tuple(values.shape)} and coins {tuple(truth.shape)} are not those of one canary each")
    if not values.isfinite().all():
        raise Refused("the scores of an audit must be finite", remedy="clamp them at a stated floor")
    m, ranked = len(values), truth[values.argsort(descending=True, stable=True)]
    halves = sorted({min(max(1, round(share * m / 2)), m // 2) for share in shares} - {0})
    if not halves:
        raise Refused(f"{m} canary allows no two guesses", remedy="use more canaries")
    each = 1 - (1 - confidence) / len(halves)
    candidates = []
    for half in halves:
        right = int(ranked[:half].sum()) + int((~ranked[m - half :]).sum())
        candidates.append((one_run_bound(m, 2 * half, right, delta, each), half, right))
    best, half, right = max(candidates)
    return Bound(best, delta, confidence, m, int(truth.sum()), 2 * half, right)


def one_run_bound(canaries: int, guesses: int, right: int, delta: float, confidence: float) -> float:
    """The least epsilon that ``right`` of ``guesses`` fixed beforehand do not exclude; 0 if they exclude none.

    Raises Refused: the numbers are not those of an audit.
    """
    if not 0 <= right <= guesses <= canaries or not 0 < confidence < 1:
        raise Refused(f"{right} right of {guesses} guesses on {canaries} canaries at {confidence} is no audit")
    return least_above(lambda e: p_value(canaries, guesses, right, e, delta), 1 - confidence)


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The most probable that ``right`` or more of ``guesses`` can be if the training is (epsilon, delta)-private.

    1 / (1 + e^-epsilon) rounds to 1 only past epsilon = 36, where the binomial tail is 1 as well.
    """
    q = float(special.expit(epsilon))
    tail = float(special.betainc(right, guesses - right + 1, q)) if right else 1.0
    if not delta or not right:
        return min(1.0, tail)
    from scipy import stats  # a second of imports, which only an audit needs

    below = np.cumsum(stats.binom.pmf(np.arange(right - 1, -1, -1), guesses, q))  # P[right > W >= right - i]
    return min(1.0, tail + 2 * canaries * delta * float((below / np.arange(1, right + 1)).max()))


def least_above(rising: Callable[[float], float], level: float) -> float:
    """The least epsilon at which ``rising`` reaches ``level``, rounded down by at most 1e-6; 0 if it does at 0.

    Raises Refused: no epsilon in range reaches ``level``.
    """
    if rising(0.0) >= level:
        return 0.0
    low, high = 0.0, 1.0
    while rising(high) < level:
        low, high = high, 2 * high
        if high > 1e6:
            raise Refused("the audit's bound does not end", remedy="check delta and the scores")
    while high - low > _DIGITS * max(1.0, high):
        middle = math.fsum((low, high)) / 2
        low, high = (middle, high) if rising(middle) < level else (low, middle)
    return low
