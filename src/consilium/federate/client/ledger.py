"""A site's ledger: the charges it has paid, in the order in which it paid them, equal ones in a row counted.

    (..., c x 3) and then c x 2   ->   (..., c x 5)

Composition of equal mechanisms depends on their number alone, so a counted ledger costs what the long one costs, and
a site that works ten thousand rounds keeps one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from consilium.core.charge import Charge, Composed, Gaussian, PerUnit, PoissonSampled, RandomisedResponse, Unit
from consilium.core.errors import Failed

__all__ = ["charge_from_json", "charge_to_json", "entered"]


def entered(ledger: tuple[Charge, ...], charge: Charge | None) -> tuple[Charge, ...]:
    """``ledger`` with ``charge`` behind it, or counted into its last line; None charges nothing."""
    if charge is None:
        return ledger
    if ledger:
        (last, before), (new, more) = _counted(ledger[-1]), _counted(charge)
        if last == new:
            return (*ledger[:-1], Composed(last, before + more))
    return (*ledger, charge)


def charge_to_json(charge: Charge) -> dict[str, Any]:
    """A charge as plain JSON, tagged by its kind."""
    match charge:
        case Gaussian(sigma):
            return {"gaussian": sigma}
        case PoissonSampled(rate, inner):
            return {"poisson": rate, "inner": charge_to_json(inner)}
        case Composed(inner, count):
            return {"count": count, "inner": charge_to_json(inner)}
        case PerUnit(unit, inner):
            return {"unit": unit, "inner": charge_to_json(inner)}
        case RandomisedResponse(epsilon, categories):
            return {"randomised-response": epsilon, "categories": categories}
    raise Failed(f"a ledger cannot hold {charge!r}")


def charge_from_json(data: Mapping[str, Any]) -> Charge:
    """The charge that :func:`charge_to_json` wrote; an unknown kind is refused, never guessed."""
    match data:
        case {"gaussian": sigma}:
            return Gaussian(sigma)
        case {"poisson": rate, "inner": inner}:
            return PoissonSampled(rate, charge_from_json(inner))
        case {"count": count, "inner": inner}:
            return Composed(charge_from_json(inner), count)
        case {"unit": unit, "inner": inner} if unit in get_args(Unit):
            return PerUnit(unit, charge_from_json(inner))
        case {"randomised-response": epsilon, "categories": categories}:
            return RandomisedResponse(epsilon, categories)
    raise Failed(f"a ledger holds an unknown charge: {dict(data)!r}", remedy="use the version that wrote it")


def _counted(charge: Charge) -> tuple[Charge, int]:
    return (charge.inner, charge.count) if isinstance(charge, Composed) else (charge, 1)
