"""A site's budget per patient and under replace-one: what it refuses, and how it counts the charges of another unit."""

from contextlib import suppress

import pytest
import torch

from consilium.core.charge import Composed, Gaussian, PerUnit, PoissonSampled
from consilium.core.errors import Refused, Unlawful
from consilium.core.records import Records
from consilium.deploy.site.ledger import Budget, open_ledger
from consilium.measure.accounting.privacy import epsilon

DELTA = 1e-5
FREE = Budget()
ROUND = (Composed(PoissonSampled(0.1, Gaussian(1.0)), 10),)
WHOLE = (Composed(PerUnit("patient", PoissonSampled(0.1, Gaussian(1.0))), 10),)
THREES = torch.arange(40) // 3


def records(units=None):
    g = torch.Generator().manual_seed(1)
    return Records.of(torch.rand(40, 4, generator=g), torch.randint(2, (40,), generator=g), units)


def cost(rounds):
    return epsilon(ROUND * rounds, DELTA).epsilon


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ledger"


def pay(folder, data, round=1, charges=ROUND, budget=FREE):
    with open_ledger(folder) as held:
        held.claim("a" * 64, round, b"w1", held.fingerprint(data), charges, budget)


def spent(folder, data):
    with open_ledger(folder) as held:
        return held.cost(held.fingerprint(data), DELTA)


def test_a_budget_of_patients_refuses_what_was_done_to_examples_and_counts_the_rest(folder):
    data = records(units=THREES)
    budget = Budget(2.0, DELTA, unit="patient")
    with pytest.raises(Refused, match=r"no finite cost per patient.*unit = \"patient\""):
        pay(folder, data, budget=budget)
    done = 0
    with pytest.raises(Refused, match=r"asks for epsilon .* is left"):
        for number in range(1, 100):
            pay(folder, data, round=number, charges=WHOLE, budget=budget)
            done = number
    assert cost(done) <= 2.0 < cost(done + 1)


def test_what_was_paid_for_examples_has_no_cost_per_patient_afterwards(folder):
    data = records(units=THREES)
    pay(folder, data)
    with pytest.raises(Refused, match=r"budget\.unit|budget\.epsilon"):
        pay(folder, data, round=2, charges=WHOLE, budget=Budget(50.0, DELTA, unit="patient"))


def test_a_patients_charge_costs_an_example_what_replacing_the_patient_would(folder):
    """Her other records stay and she is sampled as before, so her contribution moves by up to twice the clip."""
    data = records(units=THREES)
    pay(folder, data, charges=WHOLE)
    assert spent(folder, data) == pytest.approx(epsilon(ROUND, DELTA, "replace-one").epsilon)
    pay(folder, data, round=2)
    assert spent(folder, data) == pytest.approx(epsilon(ROUND * 2, DELTA, "replace-one").epsilon)


def test_a_budget_under_replace_one_is_spent_sooner(folder, tmp_path):
    def rounds(where, budget):
        number = 0
        with suppress(Refused):
            while True:
                pay(where, records(), round=number + 1, budget=budget)
                number += 1
        return number

    added = rounds(folder, Budget(8.0, DELTA))
    replaced = rounds(tmp_path / "other", Budget(8.0, DELTA, adjacency="replace-one"))
    assert 0 < replaced < added
    assert epsilon(ROUND * replaced, DELTA, "replace-one").epsilon <= 8.0
    assert epsilon(ROUND * (replaced + 1), DELTA, "replace-one").epsilon > 8.0


def test_delta_is_below_one_over_the_number_of_patients(folder):
    with pytest.raises(Unlawful, match="1/n for 14 training patients"):
        pay(folder, records(units=THREES), charges=WHOLE, budget=Budget(9.0, 0.08, unit="patient"))
