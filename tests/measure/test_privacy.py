"""The accountant against published and independently computed values, and the wrong ways that it must not take."""

import json
import math
import time

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld.pld_privacy_accountant import PLDAccountant
from dp_accounting.rdp.rdp_privacy_accountant import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from consilium.core.charge import Charge, Composed, Gaussian, PerUnit, PoissonSampled, RandomisedResponse
from consilium.core.errors import Refused, Unlawful
from consilium.measure.accounting.composition import composed, renyi_bound
from consilium.measure.accounting.noise_calibration import noise_multiplier
from consilium.measure.accounting.privacy import Claim, claims, epsilon, event, maximum

# (q, sigma, T, delta) -> RDP (Opacus), PLD (dp-accounting): measured once with both packages.
POINTS = {
    "P1": ((0.01, 4, 10_000, 1e-5), 1.0355, 0.9470),
    "P2": ((256 / 60_000, 1.3, 3515, 1e-5), 0.9544, 0.8645),
    "P3": ((256 / 60_000, 1.1, 14_062, 1e-5), 2.5966, 2.3817),
    "P4": ((250 / 60_000, 0.7, 10_800, 1e-5), 6.2330, 5.5622),
    "P5": ((512 / 50_000, 1, 8789, 1e-5), 6.4184, 5.9110),
    "P6": ((0.016, 1, 1250, 1e-4), 3.2618, 2.8904),
    "P7": ((1, 1, 1, 1e-5), 4.7285, 4.3772),
    "P8": ((0.1, 0.5, 100, 1e-5), 36.97, 31.371),
    "P9": ((0.001, 0.5, 1000, 1e-6), 5.3291, 4.2351),
}


def ledger(rate, sigma, steps):
    return [Composed(PoissonSampled(rate, Gaussian(sigma)), steps)]


@pytest.mark.parametrize("point", POINTS)
def test_known_points(point):
    (rate, sigma, steps, delta), rdp, pld = POINTS[point]
    spent = epsilon(ledger(rate, sigma, steps), delta)
    assert spent.accountant == "PLD"
    assert spent.epsilon == pytest.approx(pld, rel=1e-3)
    assert renyi_bound(((rate, sigma, steps),), delta, "add-or-remove-one") == pytest.approx(rdp, rel=0.01)
    # Both ends of the table are told apart: no tolerance here would let one column pass for the other.
    assert abs(rdp - pld) / pld > 0.05


def test_the_classic_conversion_is_another_older_bound():
    """1.26 at the Abadi point is the first moments-accountant conversion: an older bound, not an error of ours."""
    accountant = RdpAccountant()
    accountant.compose(dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(4)), 10_000)
    orders, rdp = np.array(accountant._orders), np.array(accountant._rdp)
    classic = np.min((rdp - math.log(1e-5) / (orders - 1))[orders > 1])
    assert classic == pytest.approx(1.2586, rel=1e-3)


@pytest.mark.parametrize(("n", "value"), [(500, 22.16), (2000, 4.61), (8000, 1.05)])
def test_a_site_composes_its_own_steps_over_all_rounds(n, value):
    per_round = [Composed(PoissonSampled(64 / n, Gaussian(1.0)), 10)] * 50
    assert epsilon(per_round, 1e-5).epsilon == pytest.approx(value, abs=0.005)
    assert epsilon(per_round, 1e-5) == epsilon(ledger(64 / n, 1.0, 500), 1e-5)


def test_the_wrong_ways_give_other_numbers():
    """Sum over sites, sum of rounds, pooled rate, a fresh engine every round: seen in the wild, regression-tested."""
    sites = {n: epsilon(ledger(64 / n, 1.0, 500), 1e-5).epsilon for n in (500, 2000, 8000)}
    assert sum(sites.values()) == pytest.approx(27.82, abs=0.01)
    assert 50 * epsilon(ledger(64 / 2000, 1.0, 10), 1e-5 / 50).epsilon == pytest.approx(91.01, rel=1e-3)
    assert epsilon(ledger(3 * 64 / 10_500, 1.0, 500), 1e-5).epsilon == pytest.approx(2.52, abs=0.005)
    assert epsilon(ledger(64 / 2000, 1.0, 10), 1e-5).epsilon == pytest.approx(1.15, abs=0.005)
    made = [c for n in sites for c in claims(f"site-{n}", ledger(64 / n, 1.0, 500), n=n, delta=1e-5)]
    assert maximum(made) == pytest.approx(22.16, abs=0.005)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.002, 1), st.floats(0.6, 6), st.integers(1, 2000), st.sampled_from([1e-4, 1e-5, 1e-7]))
def test_agrees_with_an_independent_computation(rate, sigma, steps, delta):
    charges = ledger(rate, sigma, steps)
    ours = epsilon(charges, delta)
    if ours.accountant != "PLD":
        assert ours.epsilon > 50
        return
    independent = PLDAccountant(value_discretization_interval=5e-4)
    independent.compose(event(charges))
    # Both round up on their grids; neither grid costs one percent, or the coarser one five of its own steps.
    assert ours.epsilon == pytest.approx(independent.get_epsilon(delta), rel=0.01, abs=2.5e-3)


@settings(max_examples=8, deadline=None)
@given(st.floats(0.05, 1), st.floats(0.8, 4), st.integers(1, 50), st.integers(1, 50))
def test_more_steps_cost_more_and_order_does_not_matter(rate, sigma, first, second):
    one, two = Composed(PoissonSampled(rate, Gaussian(sigma)), first), Composed(Gaussian(2 * sigma), second)
    both = epsilon([one, two], 1e-5).epsilon
    assert both == epsilon([two, one], 1e-5).epsilon
    assert both >= max(epsilon([one], 1e-5).epsilon, epsilon([two], 1e-5).epsilon)


def test_sampling_everything_is_not_sampling():
    assert epsilon([PoissonSampled(1.0, Gaussian(1.0))], 1e-5) == epsilon([Gaussian(1.0)], 1e-5)
    assert epsilon([Composed(Gaussian(2.0), 4)], 1e-5).epsilon == pytest.approx(4.3772, rel=1e-3)


@pytest.mark.parametrize("charges", [[], ledger(0.1, 1.0, 0)])
def test_nothing_done_costs_nothing(charges):
    assert epsilon(charges, 1e-5).epsilon == 0
    assert claims("a", charges, n=10, delta=1e-5) == ()
    assert maximum(()) is None


def test_tiny_noise_is_answered_at_once_with_its_huge_epsilon():
    """PLD takes minutes and all memory here; the number that says refuse me must be cheap."""
    composed.cache_clear()
    start = time.process_time()
    spent = epsilon(ledger(0.3, 0.01, 60), 1e-5)
    assert time.process_time() - start < 1
    assert spent.epsilon > 1e5
    assert spent.accountant == "RDP (upper bound; PLD skipped above 50)"


@pytest.mark.parametrize(
    ("target", "delta", "rate", "steps"),
    [(8, 1e-5, 0.3, 60), (1, 1e-5, 0.01, 10_000), (0.1, 1e-6, 0.05, 500), (3, 1e-5, 1.0, 1), (20, 1e-5, 0.5, 300)],
)
def test_calibration_hits_its_target_from_below(target, delta, rate, steps):
    noise_multiplier.cache_clear()
    start = time.process_time()
    sigma = noise_multiplier(target, delta, rate, steps)
    assert time.process_time() - start < 2  # half of it, on a quiet machine
    spent = epsilon(ledger(rate, sigma, steps), delta).epsilon
    assert 0.995 * target <= spent <= target
    independent = PLDAccountant(value_discretization_interval=2e-4)
    independent.compose(event(ledger(rate, sigma, steps)))
    assert independent.get_epsilon(delta) == pytest.approx(spent, rel=0.01)
    # A hundredth less noise breaks the target: it is not met by being far too careful.
    assert epsilon(ledger(rate, 0.99 * sigma, steps), delta).epsilon > target


@pytest.mark.parametrize("target", [45, 100])
def test_calibration_never_exceeds_its_target_even_where_the_bound_jumps(target):
    sigma = noise_multiplier(target, 1e-5, 0.3, 60)
    assert epsilon(ledger(0.3, sigma, 60), 1e-5).epsilon <= target


@pytest.mark.parametrize("given", [(0, 1e-5, 0.1, 10), (1, 0, 0.1, 10), (1, 1e-5, 1.5, 10), (1, 1e-5, 0.1, 0)])
def test_calibration_refuses_nonsense(given):
    with pytest.raises(Refused):
        noise_multiplier(*given)


class Laplace(Charge):
    """A charge that nobody here has taught the accountant."""


@pytest.mark.parametrize(
    "charge",
    [
        Laplace(),
        Composed(Laplace(), 3),
        PoissonSampled(0.1, Laplace()),
        PoissonSampled(0.1, PoissonSampled(0.1, Gaussian(1.0))),
        PoissonSampled(0.1, RandomisedResponse(1.0, 2)),
        PoissonSampled(1.5, Gaussian(1.0)),
        Composed(Gaussian(1.0), -1),
    ],
)
def test_an_unknown_charge_is_refused_never_guessed(charge):
    for use in (
        lambda: epsilon([charge], 1e-5),
        lambda: event([charge]),
        lambda: claims("a", [charge], n=9, delta=0.1),
    ):
        with pytest.raises(Refused, match="no accountant is known"):
            use()


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.inf])
def test_no_noise_no_epsilon(sigma):
    with pytest.raises(Unlawful, match="without noise"):
        epsilon([Gaussian(sigma)], 1e-5)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5])
def test_delta_must_be_a_probability(delta):
    with pytest.raises(Refused, match="delta"):
        epsilon([Gaussian(1.0)], delta)


def test_label_claims_stand_alone():
    label, example = RandomisedResponse(2.0, 10), Composed(Gaussian(3.0), 2)
    assert epsilon([label], 1e-5).epsilon == 2.0
    assert epsilon([Composed(label, 3)], 1e-5).epsilon == 6.0
    with pytest.raises(Unlawful, match="never added"):
        epsilon([label, example], 1e-5)
    with pytest.raises(Unlawful, match="label"):
        event([label])
    made = claims("a", [label, example], n=100, delta=1e-5)
    assert [c.unit for c in made] == ["example", "label"]
    assert maximum(made) == made[0].epsilon != 2.0
    assert maximum(made, "label") == 2.0
    assert maximum(made, "patient") is None


def test_a_record_at_a_site_is_bounded_by_replacing_the_site():
    """One round over every site, sigma 3: an update of norm C turns round, so the centres are 2C apart."""
    sigma, delta = 3.0, 0.01
    (claim,) = claims("every site", [PerUnit("site", Gaussian(sigma))], n=20, delta=delta)
    apart = dp_delta(2 / sigma, claim.record_epsilon)
    assert apart == pytest.approx(delta, rel=1e-2) and dp_delta(2 / sigma, claim.epsilon) > 2 * delta
    assert dp_delta(1 / sigma, claim.epsilon) == pytest.approx(delta, rel=1e-2)
    (example,) = claims("site-0", ledger(0.064, 1.1, 300), n=1000, delta=1e-5)
    assert example.record_epsilon == example.epsilon
    (label,) = claims("site-0", [RandomisedResponse(1.0, 2)], n=10, delta=1e-5)
    assert label.record_epsilon is None


def dp_delta(mu, epsilon):
    """Balle and Wang 2018, theorem 8: the delta of a Gaussian mechanism with sensitivity over deviation ``mu``."""
    return stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)


def test_a_claim_says_everything_and_is_plain_json():
    (claim,) = claims("site-0", ledger(0.064, 1.1, 300), n=1000, delta=1e-5)
    assert (claim.batch_size, claim.noise_multiplier, claim.steps, claim.n) == (64, 1.1, 300, 1000)
    assert (claim.sampler, claim.adjacency, claim.accountant) == ("Poisson sampling", "add-or-remove-one", "PLD")
    assert Claim(**json.loads(json.dumps(claim.to_json()))) == claim
    for word in ("private", "per example", "add-or-remove-one", "1e-05", "Poisson", "noise seed is known"):
        assert word in claim.statement()
    (whole,) = claims("site-0", ledger(1.0, 1.1, 300), n=1000, delta=1e-5)
    assert whole.sampler == "all records in every step"
