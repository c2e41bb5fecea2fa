"""A site's ledger: the charges it has paid, in the order in which it paid them, equal ones in a row counted.

    (..., c x 3) and then c x 2   ->   (..., c x 5)

Composition of equal mechanisms depends on their number alone, so a counted ledger costs what the long one costs, and
a site that works ten thousand rounds keeps one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard, get_args

from consilium.core.charge import Charge, Composed, Gaussian, PerUnit, PoissonSampled, RandomisedResponse, Unit
from consilium.core.errors import Failed
from consilium.core.plain import Json

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


def charge_to_json(charge: Charge) -> dict[str, Json]:
    """A charge as plain JSON, tagged by its kind.

    Raises Failed: an unknown kind of charge.
    """
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


def charge_from_json(data: Mapping[str, Json]) -> Charge:
    """The charge that :func:`charge_to_json` wrote; an unknown kind is refused, never guessed.

    Raises Failed: an unknown kind of charge.
    """
    match data:
        case {"gaussian": int(sigma) | float(sigma)}:
            return Gaussian(sigma)
        case {"poisson": int(rate) | float(rate), "inner": dict(inner)}:
            return PoissonSampled(rate, charge_from_json(inner))
        case {"count": int(count), "inner": dict(inner)}:
            return Composed(charge_from_json(inner), count)
        case {"unit": unit, "inner": dict(inner)} if _is_unit(unit):
            return PerUnit(unit, charge_from_json(inner))
        case {"randomised-response": int(epsilon) | float(epsilon), "categories": int(categories)}:
            return RandomisedResponse(epsilon, categories)
    raise Failed(f"a ledger holds an unknown charge: {dict(data)!r}", remedy="use the version that wrote it")


def _is_unit(name: Json) -> TypeGuard[Unit]:
    return name in get_args(Unit)


def _counted(charge: Charge) -> tuple[Charge, int]:
    return (charge.inner, charge.count) if isinstance(charge, Composed) else (charge, 1)
