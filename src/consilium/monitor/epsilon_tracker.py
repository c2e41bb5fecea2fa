"""Epsilon spent so far, while a training runs: the largest over honest sites, from the ledgers beside the model.

It is for watching.  What may be claimed is computed once, when the training is over (`study.claims`).  Accounting may
take longer than a round, so it is done at most every few seconds and for at most a twentieth of the time.  Of many
different ledgers only those estimated as costliest are composed; the figure is then marked as not exact.  Costliest is
judged by mu = q sqrt(T (exp(1/sigma^2) - 1)).

Source: Bu et al. 2020, arXiv 1911.11607 (mu, the limit of many Poisson-sampled Gaussian steps)
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from consilium.core.charge import Charge, Composed, Gaussian, PerUnit, PoissonSampled
from consilium.core.rounding import round_up
from consilium.federate.client.participant import SiteState
from consilium.measure.accounting.privacy import Claim, epsilon, maximum

__all__ = ["EpsilonSpent", "Spending"]

_EVERY = 5.0
_SHARE = 20.0
_MOST = 4
_AT_SITES = ("example", "patient")
"""Units whose charges stand in the sites' ledgers; what the server's noise spends is charged as planned (LAWS 15)."""


@dataclass(frozen=True)
class EpsilonSpent:
    """``epsilon`` after ``round`` at ``delta``, per ``unit``, of the ``planned`` one."""

    epsilon: float
    delta: float
    unit: str
    planned: float
    round: int
    exact: bool = True

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        at = f"delta {round_up(self.delta)}, " if self.delta else ""
        spent, planned = round_up(self.epsilon), round_up(self.planned)
        return f"epsilon {about}{spent} of {planned} ({at}per {self.unit}) at round {self.round}"


class Spending:
    """Watches one training's ledgers; without ``planned`` claims there is nothing to watch."""

    def __init__(self, planned: Sequence[Claim]) -> None:
        self._claims = tuple(planned)
        self._unit = next((unit for unit in _AT_SITES if maximum(planned, unit) is not None), "")
        self._sites = frozenset(claim.site for claim in planned if claim.unit == self._unit)
        self._next, self._last = time.monotonic() + _EVERY, self._labels()

    def after(self, number: int, sites: Mapping[str, SiteState], last: bool = False) -> EpsilonSpent | None:
        """What is spent, as of round ``number`` or the last one looked at; None if the training makes no claim.

        After the ``last`` round it is always computed, over every ledger, as the claim will be.
        """
        start = time.monotonic()
        if self._sites and (last or start >= self._next):
            self._last = self._examples(number, sites, last)
            now = time.monotonic()
            self._next = now + max(_EVERY, _SHARE * (now - start))
        elif not self._sites and self._last is not None:
            self._last = replace(self._last, round=number)
        return self._last

    def _labels(self) -> EpsilonSpent | None:
        """A label is charged once, before the first round (LAWS 11); an example's claim goes before it (LAWS 13)."""
        cost = maximum(self._claims, "label")
        return None if cost is None or self._sites else EpsilonSpent(cost, 0.0, "label", cost, 0)

    def _examples(self, number: int, sites: Mapping[str, SiteState], last: bool) -> EpsilonSpent:
        ledgers = {tuple(_gathered(sites[site].ledger)) for site in self._sites if site in sites}
        costliest = sorted(ledgers, key=_mu, reverse=True)
        candidates = costliest if last else costliest[:_MOST]
        claims = [claim for claim in self._claims if claim.unit == self._unit]
        delta = max(claim.delta for claim in claims)
        adjacency = next(claim.adjacency for claim in claims if claim.adjacency != "replace-one-label")
        spent = max((epsilon(ledger, delta, adjacency).epsilon for ledger in candidates), default=0.0)
        planned = maximum(self._claims, self._unit) or 0.0
        return EpsilonSpent(spent, delta, self._unit, planned, number, len(candidates) == len(costliest))


def _gathered(charges: Iterable[Charge]) -> list[Charge]:
    """A ledger with equal charges counted together, so that equal ledgers are equal."""
    counts: dict[Charge, int] = {}
    for charge in charges:
        inner, count = (charge.inner, charge.count) if isinstance(charge, Composed) else (charge, 1)
        counts[inner] = counts.get(inner, 0) + count
    return [Composed(inner, count) for inner, count in sorted(counts.items(), key=repr)]


def _unwrapped(charge: Charge) -> Charge:
    """The same without its unit, in which all charges of a ledger agree."""
    match charge:
        case Composed(PerUnit(_, inner), count):
            return Composed(inner, count)
    return charge


def _mu(ledger: Sequence[Charge]) -> float:
    total = 0.0
    for charge in ledger:
        match _unwrapped(charge):
            case Composed(PoissonSampled(rate, Gaussian(sigma)), count):
                total += count * rate**2 * math.expm1(min(1 / sigma**2, 700.0))
            case Composed(Gaussian(sigma), count):
                total += count / sigma**2
            case _:
                return math.inf
    return total
