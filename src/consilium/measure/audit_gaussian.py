"""The tighter bound of an audit that takes a Gaussian mechanism for granted: a warning, never a proof.

If each canary shifts its own score like a Gaussian mechanism, and none disturbs another's, then at any threshold

    Phi^-1(TPR) - Phi^-1(FPR) <= mu,        delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu)

The threshold is the j-th highest score of the canaries left out: its FPR is then Beta(j, n - j + 1) whatever the scores
are, and the TPR of the others has Clopper and Pearson's limit.  Both limits share the error; among several j the best
is taken and each held to (1 - confidence) / their number (Bonferroni).

Source: Nasr et al. 2023, Tight Auditing of Differentially Private Machine Learning, arXiv 2302.07956; Dong, Roth and
Su 2019, Gaussian Differential Privacy, arXiv 1905.02383, corollary 2.13
"""

from __future__ import annotations

import math

from scipy import special
from torch import Tensor

from .audit import Bound, least_above

__all__ = ["ASSUMPTION", "gaussian", "gaussian_delta", "gaussian_epsilon"]

ASSUMPTION = "a Gaussian mechanism, and canaries that do not disturb each other"
_SHARES = (0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7)
"""Of the canaries left out: at which of their scores the threshold is laid."""


def gaussian(scores: Tensor, included: Tensor, *, delta: float, confidence: float) -> Bound:
    """The bound from ``scores (m,)``, the higher the likelier in, and the coins ``included (m,)``.

    0 where every canary is in, or none.  ``guesses`` and ``right`` of the result are those of its threshold.
    """
    values, truth = scores.detach().double().cpu(), included.bool().cpu()
    inside, outside = values[truth], values[~truth].sort(descending=True).values
    m, n = len(values), len(outside)
    if not len(inside) or not n:
        return Bound(0.0, delta, confidence, m, len(inside), 0, 0, ASSUMPTION)
    ranks = sorted({max(1, math.ceil(share * n)) for share in _SHARES})
    error = (1 - confidence) / len(ranks) / 2
    candidates = []
    for rank in ranks:
        above = int((inside > outside[rank - 1]).sum())
        mu = _separation(above, len(inside), rank, n, error)
        candidates.append((mu, above + n - rank + 1))
    mu, right = max(candidates)
    return Bound(gaussian_epsilon(mu, delta), delta, confidence, m, len(inside), m, right, ASSUMPTION)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The delta of a Gaussian mechanism with sensitivity over deviation ``mu`` > 0 at ``epsilon``."""
    spill = math.exp(min(epsilon + float(special.log_ndtr(-mu / 2 - epsilon / mu)), 0.0))
    return max(0.0, float(special.ndtr(mu / 2 - epsilon / mu)) - spill)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The epsilon of a Gaussian mechanism with sensitivity over deviation ``mu`` at ``delta``; 0 for mu = 0."""
    return 0.0 if mu <= 0 else least_above(lambda e: -gaussian_delta(mu, e), -delta)


def _separation(above: int, inside: int, rank: int, outside: int, error: float) -> float:
    """The least mu at this threshold: the lower limit of the TPR against the upper one of the FPR."""
    if not above:
        return 0.0
    true = float(special.betaincinv(above, inside - above + 1, error))
    false = float(special.betaincinv(rank, outside - rank + 1, 1 - error))
    return max(0.0, float(special.ndtri(true) - special.ndtri(false)))
