"""A counted ledger costs what the long one costs, and holds what was paid."""

from __future__ import annotations

import json
import random

import pytest

from consilium.core.charge import Charge, Composed, Gaussian, PerUnit, PoissonSampled, RandomisedResponse
from consilium.core.errors import Failed
from consilium.federate.client.charges_paid import charge_from_json, charge_to_json, entered
from consilium.measure.accounting.privacy import claims, epsilon

STEP = PoissonSampled(0.1, Gaussian(1.5))
OTHER = PoissonSampled(0.1, Gaussian(2.5))


def counted(charges):
    ledger = ()
    for charge in charges:
        ledger = entered(ledger, charge)
    return ledger


def paid(ledger):
    counts = {}
    for charge in ledger:
        inner, count = (charge.inner, charge.count) if isinstance(charge, Composed) else (charge, 1)
        counts[inner] = counts.get(inner, 0) + count
    return counts


def test_thousands_of_equal_charges_are_one_line() -> None:
    assert counted([Composed(STEP, 3)] * 4000) == (Composed(STEP, 12000),)
    assert counted([STEP, STEP, Composed(STEP, 2), None]) == (Composed(STEP, 4),)
    assert counted([STEP]) == (STEP,)


def test_what_differs_stays_apart_and_in_order() -> None:
    ledger = counted([STEP, OTHER, OTHER, Composed(STEP, 2), STEP])
    assert ledger == (STEP, Composed(OTHER, 2), Composed(STEP, 3))


@pytest.mark.parametrize("seed", range(5))
def test_claims_are_those_of_the_uncounted_ledger(seed) -> None:
    draw = random.Random(seed)
    long = tuple(Composed(draw.choice([STEP, STEP, STEP, OTHER]), draw.randint(0, 3)) for _ in range(60))
    short = counted(long)
    assert len(short) < len(long) and paid(short) == {**dict.fromkeys(paid(short), 0), **paid(long)}
    told = [claims("site-0", ledger, n=200, delta=1e-4) for ledger in (long, short)]
    assert told[0] == told[1] and told[0][0].epsilon > 0
    kept = [charge for charge in short if charge.count]
    assert epsilon(kept[1:], 1e-4).epsilon < epsilon(short, 1e-4).epsilon  # a line lost would show


@pytest.mark.parametrize(
    "charge",
    [
        Composed(PoissonSampled(0.1, Gaussian(1.5)), 7),
        Composed(PerUnit("patient", PoissonSampled(0.1, Gaussian(1.5))), 7),
        PerUnit("site", Gaussian(2.0)),
        RandomisedResponse(1.0, 3),
    ],
)
def test_charges_round_trip(charge: Charge) -> None:
    assert charge_from_json(json.loads(json.dumps(charge_to_json(charge)))) == charge


def test_unknown_charges_are_refused() -> None:
    with pytest.raises(Failed, match="unknown charge"):
        charge_from_json({"laplace": 1.0})
    with pytest.raises(Failed, match="cannot hold"):
        charge_to_json(Charge())
