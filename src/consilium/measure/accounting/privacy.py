"""What a ledger of charges costs: epsilon at a given delta, the noise that a given epsilon needs, and the claim.

Charges of one unit compose; those of different units never do.  The same charges are judged under either adjacency:
add-or-remove-one, or replace-one, which costs more.  Randomised response has a closed form, and its own unit.

Source: Dwork and Roth 2014, The Algorithmic Foundations of Differential Privacy (units, adjacency, composition)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from consilium.core.charge import (
    Adjacency,
    Charge,
    Composed,
    Gaussian,
    PerUnit,
    PoissonSampled,
    RandomisedResponse,
    Unit,
)
from consilium.core.errors import Refused, Unlawful
from consilium.core.rounding import round_up

from .composition import Mechanisms, Spent, composed, dp_event

if TYPE_CHECKING:
    import dp_accounting

__all__ = ["CENTRAL", "LOCAL", "UNITS", "Claim", "check_delta", "claims", "epsilon", "event",
           "maximum", "most_repeats", "most_times", ]  # fmt: skip

UNITS = ("example", "patient", "site", "label")
"""In the order in which one of them represents a model."""

LOCAL = "the server, the other sites and whoever receives the model"
"""Against whom a claim holds whose noise is added at the site."""

CENTRAL = "the other sites and whoever receives the model; the server is trusted: it sees each update"
"""Against whom a claim holds whose noise is added by the server."""

_RESPONSE = "randomised response (closed form)"
_REPLAYABLE = "replayable: holds for the mechanism, not for this artefact: its noise seed is known"


@dataclass(frozen=True)
class Claim:
    """A privacy guarantee for one site's records, complete enough to be checked (LAWS 13).

    ``unit`` is what one more or one less of changes little: example, patient, site or label; ``n`` counts those.
    ``batch_size`` is the largest expected batch of them, ``noise_multiplier`` the smallest used, ``steps`` the number
    of calls; None where they have no meaning.  ``against`` is whom the claim holds against.  ``n_public``: numbers of
    records or units are taken as public (LAWS 9).  ``record_epsilon`` is what bounds a guess whether one record was in:
    ``epsilon``, but where the unit is a site, which is there either way and sends something else: that of replace-one;
    None for labels, whose claim does not use it.
    """

    site: str
    unit: str
    adjacency: Adjacency | Literal["replace-one-label"]
    epsilon: float
    delta: float
    sampler: str
    accountant: str
    n: int
    batch_size: int | None
    noise_multiplier: float | None
    steps: int
    against: str
    noise: str
    n_public: bool = True
    record_epsilon: float | None = None

    def to_json(self) -> dict[str, object]:
        """Plain JSON values, one per field."""
        return asdict(self)

    def statement(self) -> str:
        """The sentence that must accompany the word "private"."""
        public = "; n-public = true" if self.n_public else ""
        return (
            f"({round_up(self.epsilon)}, {round_up(self.delta)})-differentially private per {self.unit}, "
            f"{self.adjacency}{public}, against {self.against}; {self.sampler}; {self.accountant}; noise {self.noise}"
        )


def epsilon(charges: Sequence[Charge], delta: float, adjacency: Adjacency = "add-or-remove-one") -> Spent:
    """The cost of ``charges``, all of the same unit, together at ``delta``.  An unknown charge is refused.

    Randomised response spends its own epsilon at any delta; beside another unit's charge it is unlawful (LAWS 11).

    Raises Unlawful: charges of different units (law 11).
    """
    labels, units = _split(charges)
    if len(units) + bool(labels) > 1:
        names = " and ".join([*units, *(["label"] if labels else [])])
        raise Unlawful(
            f"charges of different units ({names}) are never added", law=11, remedy="make one claim for each unit"
        )
    if labels:
        return Spent(float(sum(r.epsilon * count for r, count in labels.items())), _RESPONSE)
    check_delta(delta)
    return composed(_canonical(next(iter(units.values()), Counter())), delta, adjacency)


def event(charges: Sequence[Charge]) -> dp_accounting.DpEvent:
    """The same ledger in the terms of dp-accounting, for any accountant outside.  Label charges are refused.

    Raises Unlawful: label charges, or charges of several units.
    """
    import dp_accounting

    labels, units = _split(charges)
    if labels:
        raise Unlawful("randomised response has the unit label and no add-or-remove event", remedy="use epsilon()")
    if len(units) > 1:
        raise Unlawful(f"one event has one unit, not {' and '.join(units)}", remedy="make one for each unit")
    ledger = _canonical(next(iter(units.values()), Counter()))
    return dp_accounting.ComposedDpEvent([dp_event(*mechanism) for mechanism in ledger])


def most_times(
    charge: Charge, most: int, target: float, delta: float, adjacency: Adjacency = "add-or-remove-one"
) -> int:
    """How often ``charge`` can be made, at most ``most`` times, before it costs more than ``target``; perhaps never."""
    return most_repeats(lambda times: Composed(charge, times), most, target, delta, adjacency)


def most_repeats(
    charge: Callable[[int], Charge], most: int, target: float, delta: float, adjacency: Adjacency = "add-or-remove-one"
) -> int:
    """The largest number, at most ``most``, whose ``charge``, which rises with it, costs no more than ``target``."""

    def fits(times: int) -> bool:
        return epsilon([charge(times)], delta, adjacency).epsilon <= target * (1 + 1e-9)

    if fits(most):
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def claims(
    site: str,
    charges: Sequence[Charge],
    *,
    n: int,
    delta: float,
    adjacency: Adjacency = "add-or-remove-one",
    against: str = LOCAL,
    sampler: str = "",
    noise: str = _REPLAYABLE,
) -> tuple[Claim, ...]:
    """One claim per unit that was charged at ``site`` with ``n`` such units; none without a charge.

    ``sampler`` is a description where the charges do not determine it.
    """
    labels, units = _split(charges)
    results = []
    for unit, counted in units.items():
        ledger = _canonical(counted)
        spent, rate = composed(ledger, delta, adjacency), max(rate for rate, _, _ in ledger)
        sampling = sampler or (f"all {_SAMPLED[unit]} in every step" if rate == 1 else "Poisson sampling")
        sigma, steps = min(sigma for _, sigma, _ in ledger), sum(count for *_, count in ledger)
        # A patient that is replaced may bring another number of records, and those weigh the site's update.
        public = adjacency != "replace-one" or unit == "patient"
        one = (spent.epsilon, delta, sampling, spent.accountant)
        replaced = composed(ledger, delta, "replace-one") if unit == "site" else spent
        results.append(
            Claim(
                site, unit, adjacency, *one, n, round(rate * n), sigma, steps, against, noise, public, replaced.epsilon
            )
        )
    if labels:
        cost = float(sum(response.epsilon * count for response, count in labels.items()))
        one = (cost, 0.0, "every label, once and stored", _RESPONSE)
        results.append(
            Claim(site, "label", "replace-one-label", *one, n, None, None, sum(labels.values()), against, noise)
        )
    return tuple(results)


def maximum(claims: Sequence[Claim], unit: str = "example") -> float | None:
    """The largest epsilon over sites of claims with this ``unit``; None without one.  Units never mix (LAWS 11, 13)."""
    return max((c.epsilon for c in claims if c.unit == unit), default=None)


_SAMPLED = {"example": "records", "patient": "patients", "site": "sites"}
_Counted = Counter[tuple[float, float]]


def check_delta(delta: float) -> None:
    """Refuse a ``delta`` that is no probability above 0.

    Raises Refused: ``delta`` is not above 0 and below 1.
    """
    if not 0 < delta < 1:
        raise Refused(f"delta = {delta!r} is not a probability above 0", remedy="use one far below 1/n, such as 1e-5")


def _split(charges: Sequence[Charge]) -> tuple[Counter[RandomisedResponse], dict[Unit, _Counted]]:
    """How often each randomised response, and by unit each (rate, sigma), is in the ledger."""
    labels: Counter[RandomisedResponse] = Counter()
    units: dict[Unit, _Counted] = {}
    for unit, mechanism, count in _leaves(charges):
        if isinstance(mechanism, RandomisedResponse):
            labels[mechanism] += count
        else:
            units.setdefault(unit, Counter())[mechanism] += count
    return labels, units


def _leaves(
    charges: Sequence[Charge], times: int = 1, unit: Unit = "example"
) -> Iterator[tuple[Unit, RandomisedResponse | tuple[float, float], int]]:
    for charge in charges:
        match charge:
            case Composed(_, 0):
                continue
            case Composed(inner, count) if count > 0:
                yield from _leaves((inner,), times * count, unit)
            case PerUnit(whose, inner) if unit == "example":
                yield from _leaves((inner,), times, whose)
            case RandomisedResponse() if unit == "example":
                yield unit, charge, times
            case Gaussian(sigma) | PoissonSampled(1.0, Gaussian(sigma)):
                yield unit, (1.0, _positive(sigma)), times
            case PoissonSampled(rate, Gaussian(sigma)) if 0 < rate < 1:
                yield unit, (rate, _positive(sigma)), times
            case _:
                raise Refused(
                    f"no accountant is known for the charge {charge!r}",
                    remedy="use Gaussian, Poisson-sampled Gaussian, their compositions, or randomised response",
                )


def _positive(sigma: float) -> float:
    if not 0 < sigma < math.inf:
        raise Unlawful(f"noise multiplier {sigma}: without noise there is no epsilon", remedy="use a positive one")
    return sigma


def _canonical(counted: _Counted) -> Mechanisms:
    return tuple((rate, sigma, count) for (rate, sigma), count in sorted(counted.items()))
