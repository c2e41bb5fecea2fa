"""What a ledger of charges costs: epsilon at a given delta, and the noise that a given epsilon needs.

Adjacency is add-or-remove-one.  Gaussian and Poisson-sampled Gaussian charges are composed by privacy loss
distributions on a grid of width h, chosen so that the grid's error (about T h^2 over T steps, always upwards) stays
near 1e-4 of epsilon.  A Renyi bound is computed first: it is cheap, and above 50 it stands alone, because the exact
answer then takes minutes and changes no decision.  Randomised response has a closed form, and its own unit.

Source: Koskela et al. 2020, arXiv 1906.03049; Doroshenko et al. 2022, arXiv 2207.04380; Mironov 2017, arXiv 1702.07476
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache

import dp_accounting
from dp_accounting.pld.pld_privacy_accountant import PLDAccountant
from dp_accounting.rdp.rdp_privacy_accountant import RdpAccountant

from consilium.core.charge import Charge, Composed, Gaussian, PoissonSampled, RandomisedResponse
from consilium.core.errors import Refused, Unlawful

__all__ = ["Claim", "Spent", "claims", "epsilon", "event", "maximum", "noise_multiplier"]

_SKIP_ABOVE = 50.0
_PLD = "PLD"
_RDP = f"RDP (upper bound; PLD skipped above {_SKIP_ABOVE:g})"
_RESPONSE = "randomised response (closed form)"
_REPLAYABLE = "replayable: holds for the mechanism, not for this artefact: its noise seed is known"

_Mechanisms = tuple[tuple[float, float, int], ...]
"""(sampling rate, noise multiplier, how often), sorted: a ledger in canonical form."""


@dataclass(frozen=True)
class Spent:
    """An epsilon and the accountant that computed it."""

    epsilon: float
    accountant: str


@dataclass(frozen=True)
class Claim:
    """What may be said of one site's records, complete enough to be checked (LAWS 13).

    ``unit`` is what one more or one less of changes little: example, patient, site or label.  ``batch_size`` is the
    largest expected batch, ``noise_multiplier`` the smallest used, ``steps`` the number of calls; None where they have
    no meaning.  ``against`` is whom the claim holds against.
    """

    site: str
    unit: str
    adjacency: str
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

    def to_json(self) -> dict[str, object]:
        """Plain JSON values, one per field."""
        return asdict(self)

    def statement(self) -> str:
        """The sentence without which the word private may not be used."""
        return (
            f"({self.epsilon:.3g}, {self.delta:.3g})-differentially private per {self.unit}, {self.adjacency}, "
            f"against {self.against}; {self.sampler}; {self.accountant}; noise {self.noise}"
        )


def epsilon(charges: Sequence[Charge], delta: float) -> Spent:
    """What ``charges``, all made to the same unit, cost together at ``delta``.  An unknown charge is refused.

    Randomised response spends its own epsilon at any delta; beside an example's charge it is unlawful (LAWS 11).
    """
    labels, examples = _split(charges)
    if labels and examples:
        raise Unlawful(
            "a label charge and an example charge are never added (LAWS 11)", remedy="make one claim for each unit"
        )
    if labels:
        return Spent(float(sum(r.epsilon * count for r, count in labels.items())), _RESPONSE)
    _check_delta(delta)
    return _gaussians(_canonical(examples), delta)


def event(charges: Sequence[Charge]) -> dp_accounting.DpEvent:
    """The same ledger in the terms of dp-accounting, for any accountant outside.  Label charges are refused."""
    labels, examples = _split(charges)
    if labels:
        raise Unlawful("randomised response has the unit label and no add-or-remove event", remedy="use epsilon()")
    return dp_accounting.ComposedDpEvent([_event(*m) for m in _canonical(examples)])


@lru_cache(maxsize=4096)
def noise_multiplier(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The least sigma, to five digits and rounded up, whose cost over ``steps`` Poisson samples is at most ``epsilon``.

    It spends at least 99.5 % of ``epsilon``, except between about 40 and 50, where the reported bound jumps.
    """
    _check_delta(delta)
    if not (0 < epsilon < math.inf and 0 < rate <= 1 and steps >= 1):
        raise Refused(
            f"no noise multiplier for epsilon {epsilon}, rate {rate}, steps {steps}", remedy="use positive ones"
        )
    return _least(lambda sigma: _gaussians(((rate, sigma, steps),), delta).epsilon, epsilon)


def claims(
    site: str,
    charges: Sequence[Charge],
    *,
    n: int,
    delta: float,
    against: str = "anyone who sees what leaves the site",
    noise: str = _REPLAYABLE,
) -> tuple[Claim, ...]:
    """One claim per unit that was charged at ``site`` with ``n`` training records; none without a charge."""
    labels, examples = _split(charges)
    made = []
    if examples:
        ledger = _canonical(examples)
        spent, rate = _gaussians(ledger, delta), max(rate for rate, _, _ in ledger)
        sampler = "all records in every step" if rate == 1 else "Poisson sampling"
        one = ("example", "add-or-remove-one", spent.epsilon, delta, sampler, spent.accountant)
        sigma, steps = min(sigma for _, sigma, _ in ledger), sum(count for *_, count in ledger)
        made.append(Claim(site, *one, n, round(rate * n), sigma, steps, against, noise))
    if labels:
        cost = float(sum(response.epsilon * count for response, count in labels.items()))
        one = ("label", "replace-one-label", cost, 0.0, "every label, once and stored", _RESPONSE)
        made.append(Claim(site, *one, n, None, None, sum(labels.values()), against, noise))
    return tuple(made)


def maximum(claims: Sequence[Claim], unit: str = "example") -> float | None:
    """The largest epsilon over sites of claims with this ``unit``; None without one.  Units never mix (LAWS 11, 13)."""
    return max((c.epsilon for c in claims if c.unit == unit), default=None)


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise Refused(f"delta = {delta!r} is not a probability above 0", remedy="use one far below 1/n, such as 1e-5")


def _split(charges: Sequence[Charge]) -> tuple[Counter[RandomisedResponse], Counter[tuple[float, float]]]:
    """How often each randomised response and each (rate, sigma) stands in the ledger."""
    labels: Counter[RandomisedResponse] = Counter()
    examples: Counter[tuple[float, float]] = Counter()
    for mechanism, count in _leaves(charges):
        if isinstance(mechanism, RandomisedResponse):
            labels[mechanism] += count
        else:
            examples[mechanism] += count
    return labels, examples


def _leaves(
    charges: Sequence[Charge], times: int = 1
) -> Iterator[tuple[RandomisedResponse | tuple[float, float], int]]:
    for charge in charges:
        match charge:
            case Composed(_, 0):
                continue
            case Composed(inner, count) if count > 0:
                yield from _leaves((inner,), times * count)
            case RandomisedResponse():
                yield charge, times
            case Gaussian(sigma) | PoissonSampled(1.0, Gaussian(sigma)):
                yield (1.0, _positive(sigma)), times
            case PoissonSampled(rate, Gaussian(sigma)) if 0 < rate < 1:
                yield (rate, _positive(sigma)), times
            case _:
                raise Refused(
                    f"no accountant here knows the charge {charge!r}",
                    remedy="use Gaussian, Poisson-sampled Gaussian, their compositions, or randomised response",
                )


def _positive(sigma: float) -> float:
    if not 0 < sigma < math.inf:
        raise Unlawful(f"noise multiplier {sigma}: without noise there is no epsilon", remedy="use a positive one")
    return sigma


def _canonical(examples: Counter[tuple[float, float]]) -> _Mechanisms:
    return tuple((rate, sigma, count) for (rate, sigma), count in sorted(examples.items()))


@lru_cache(maxsize=4096)
def _gaussians(ledger: _Mechanisms, delta: float) -> Spent:
    if not ledger:
        return Spent(0.0, _PLD)
    bound = _renyi(ledger, delta)
    if bound > _SKIP_ABOVE:
        return Spent(bound, _RDP)
    width = math.sqrt(1e-4 * max(bound, 1e-3) / sum(count for _, _, count in ledger))
    exact = PLDAccountant(value_discretization_interval=min(max(width, 1e-5), 1e-3))
    for mechanism in ledger:
        exact.compose(_event(*mechanism))
    value = float(exact.get_epsilon(delta))
    return Spent(value, _PLD) if math.isfinite(value) else Spent(bound, "RDP (upper bound; PLD did not resolve delta)")


def _renyi(ledger: _Mechanisms, delta: float) -> float:
    accountant = RdpAccountant()
    with _quiet():
        for mechanism in ledger:
            accountant.compose(_event(*mechanism))
        return float(accountant.get_epsilon(delta))


def _event(rate: float, sigma: float, count: int) -> dp_accounting.DpEvent:
    gaussian = dp_accounting.GaussianDpEvent(sigma)
    one = gaussian if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, gaussian)
    return dp_accounting.SelfComposedDpEvent(one, count)


def _least(cost: Callable[[float], float], target: float) -> float:
    """Falling ``cost``: the least sigma with cost <= target.  Bracket by doubling, then secants in log-log."""
    low, high = 0.0, 1.0
    below, above = cost(high), math.inf
    while below > target:
        low, above, high = high, below, high * 2
        below = cost(high)
    while not low:
        half = _ceil(high / 2)
        value = cost(half)
        if value > target:
            low, above = half, value
        else:
            high, below = half, value
    while below < 0.996 * target and high / low > 1 + 1e-4:
        middle = _ceil(_secant(low, above, high, below, 0.998 * target))
        if not low < middle < high:
            break
        value = cost(middle)
        if value > target:
            low, above = middle, value
        else:
            high, below = middle, value
    return high


def _secant(low: float, above: float, high: float, below: float, aim: float) -> float:
    """Where a power law through both ends meets ``aim``, kept 5 % inside them (in log) so that both ends move."""
    a, b, c = (math.log(max(v, 1e-12)) for v in (above, below, aim))
    share = min(max((a - c) / (a - b), 0.05), 0.95) if a > b else 0.5
    return math.exp(math.log(low) + share * math.log(high / low))


def _ceil(sigma: float) -> float:
    """Rounded up to five significant digits: short to print, and never less noise than asked."""
    unit = 10.0 ** (math.floor(math.log10(sigma)) - 4)
    return round(math.ceil(sigma / unit - 1e-9) * unit, 12)


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop dp-accounting's warnings about Renyi orders that it leaves out: a bound over fewer orders is still one."""

    def keep(record: logging.LogRecord) -> bool:
        return "failed to converge" not in str(record.msg)

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
