"""Replace-one against the table of notes/privacy.md, closed forms, and the units that never mix."""

import math

import pytest
from scipy import stats
from scipy.optimize import brentq

from consilium.core.charge import Composed, Gaussian, PerUnit, PoissonSampled
from consilium.core.errors import Refused, Unlawful
from consilium.measure.accounting.composition import renyi_bound
from consilium.measure.accounting.noise_calibration import noise_multiplier
from consilium.measure.accounting.privacy import claims, epsilon, event, maximum, most_times

REPLACE = {
    "P1": ((0.01, 4, 10_000, 1e-5), 1.9932),
    "P2": ((256 / 60_000, 1.3, 3515, 1e-5), 1.5552),
    "P3": ((256 / 60_000, 1.1, 14_062, 1e-5), 4.2214),
    "P4": ((250 / 60_000, 0.7, 10_800, 1e-5), 7.9394),
    "P5": ((512 / 50_000, 1, 8789, 1e-5), 10.3433),
    "P6": ((0.016, 1, 1250, 1e-4), 4.7795),
    "P7": ((1, 1, 1, 1e-5), 9.9973),
    "P8": ((0.1, 0.5, 100, 1e-5), 36.77),
    "P9": ((0.001, 0.5, 1000, 1e-6), 4.2901),
}


def ledger(rate, sigma, steps):
    return [Composed(PoissonSampled(rate, Gaussian(sigma)), steps)]


def gaussian(sensitivity, sigma, delta):
    """The Gaussian mechanism in closed form. Source: Balle and Wang 2018, arXiv 1805.06530, theorem 8."""

    def over(eps):
        a, b = sensitivity / (2 * sigma), eps * sigma / sensitivity
        return stats.norm.cdf(a - b) - math.exp(eps) * stats.norm.cdf(-a - b) - delta

    return brentq(over, 0, 100)


@pytest.mark.parametrize("point", REPLACE)
def test_known_points(point):
    (rate, sigma, steps, delta), value = REPLACE[point]
    spent = epsilon(ledger(rate, sigma, steps), delta, "replace-one")
    assert spent.accountant == "PLD"
    assert spent.epsilon == pytest.approx(value, rel=0.01)
    assert spent.epsilon > epsilon(ledger(rate, sigma, steps), delta).epsilon
    assert renyi_bound(((rate, sigma, steps),), delta, "replace-one") > spent.epsilon


@pytest.mark.parametrize(("sigma", "steps"), [(1.0, 1), (3.0, 4), (8.0, 100)])
def test_everything_sampled_is_the_closed_form_with_sensitivity_one_or_two(sigma, steps):
    for adjacency, moved in (("add-or-remove-one", 1), ("replace-one", 2)):
        spent = epsilon(ledger(1.0, sigma, steps), 1e-5, adjacency).epsilon
        assert spent == pytest.approx(gaussian(moved * math.sqrt(steps), sigma, 1e-5), rel=1e-3)


def test_a_huge_cost_under_replace_one_is_answered_by_a_bound():
    spent = epsilon(ledger(0.3, 0.05, 60), 1e-5, "replace-one")
    assert "RDP" in spent.accountant and spent.epsilon > epsilon(ledger(0.3, 0.05, 60), 1e-5).epsilon


def test_calibration_under_replace_one_meets_its_target():
    sigma = noise_multiplier(3.0, 1e-5, 0.05, 200, "replace-one")
    assert 2.985 <= epsilon(ledger(0.05, sigma, 200), 1e-5, "replace-one").epsilon <= 3.0
    assert sigma > 1.1 * noise_multiplier(3.0, 1e-5, 0.05, 200)


def test_the_claim_says_its_adjacency_and_when_n_is_public():
    (added,) = claims("a", ledger(0.1, 1.0, 50), n=400, delta=1e-4)
    (replaced,) = claims("a", ledger(0.1, 1.0, 50), n=400, delta=1e-4, adjacency="replace-one")
    assert added.n_public and "add-or-remove-one; n-public = true" in added.statement()
    assert not replaced.n_public and "replace-one, against" in replaced.statement()
    assert replaced.epsilon > added.epsilon
    patient = [PerUnit("patient", charge) for charge in ledger(0.1, 1.0, 50)]
    (whole,) = claims("a", patient, n=400, delta=1e-4, adjacency="replace-one")
    assert whole.n_public and whole.unit == "patient"


def test_units_never_mix():
    one, whole = ledger(0.1, 1.0, 50), [Composed(PerUnit("patient", PoissonSampled(0.1, Gaussian(1.0))), 50)]
    assert epsilon(one, 1e-4).epsilon == epsilon(whole, 1e-4).epsilon
    with pytest.raises(Unlawful, match="different units"):
        epsilon([*one, *whole], 1e-4)
    with pytest.raises(Unlawful, match="one unit"):
        event([*one, *whole])
    made = claims("a", [*one, *whole], n=400, delta=1e-4)
    assert [c.unit for c in made] == ["example", "patient"]
    assert maximum(made, "patient") == made[1].epsilon and maximum(made, "site") is None
    with pytest.raises(Refused, match="no accountant"):
        epsilon([PerUnit("patient", PerUnit("site", Gaussian(1.0)))], 1e-4)


def test_how_often_a_charge_fits_a_budget():
    charge = PoissonSampled(0.1, Gaussian(1.0))
    most = most_times(charge, 1000, 3.0, 1e-5)
    assert epsilon([Composed(charge, most)], 1e-5).epsilon <= 3.0 < epsilon([Composed(charge, most + 1)], 1e-5).epsilon
    assert most_times(charge, 5, 3.0, 1e-5) == 5
    assert most_times(Gaussian(0.5), 5, 0.1, 1e-5) == 0
