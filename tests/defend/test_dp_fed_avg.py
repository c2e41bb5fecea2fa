"""DP-FedAvg: every update bounded, noise on the sum over a fixed denominator, and what is claimed of a site."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from consilium.core.charge import Composed, Gaussian, PerUnit, PoissonSampled
from consilium.core.errors import Refused, Unlawful
from consilium.core.merge import Cohort
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.update import Update
from consilium.defend.update import _central_noise
from consilium.defend.update._central_noise import CLIP, INSIDE
from consilium.defend.update.dp_fed_avg import DPFedAvg
from consilium.measure.accounting.privacy import epsilon

MANY = Cohort(400, 100, 0.1, "poisson")


def update(length, k=0, size=50, round=1, weight=1.0):
    direction = torch.randn(size, generator=Stream(k).generator())
    return Update(f"s{k}", round, weight, {"delta": direction / direction.norm() * length, "buffers": torch.zeros(0)})


def noisy(noise=1.0, clip=0.5, cohort=MANY, **knobs):
    return DPFedAvg(noise_multiplier=noise, clip=clip, **knobs).merge_for(cohort, Stream(3))


# --- the bound ----------------------------------------------------------------------------------------------------


def test_the_bound_is_over_all_that_is_sent_and_binds_who_skipped_it():
    sent = Update("a", 1, 9.0, {"delta": torch.full((4,), 3.0), "control": torch.full((9,), 4.0)})
    bound = DPFedAvg(noise_multiplier=1.0, clip=2.0).enforce(sent, {}).payload
    assert torch.cat(list(bound.values())).norm() == pytest.approx(2.0, rel=1e-5)
    assert float(bound["delta"][0] / bound["control"][0]) == pytest.approx(3 / 4)


def test_what_a_site_says_of_itself_counts_for_one_at_most():
    forged = update(9.0)
    forged.payload[INSIDE] = torch.tensor([1e9])
    read = DPFedAvg(noise_multiplier=1.0, quantile=0.5).enforce(forged, {})
    assert float(read.payload[INSIDE]) == 0.5 and float(read.payload["delta"].norm()) <= 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(Refused, match="not finite"):
        DPFedAvg(noise_multiplier=1.0).enforce(Update("a", 1, 1.0, {"delta": torch.tensor([0.0, bad])}), {})


def test_what_a_cut_would_make_meaningless_is_refused_by_name():
    with pytest.raises(Unlawful, match="steps would be cut"):
        DPFedAvg(noise_multiplier=1.0).protect(
            Update("a", 1, 1.0, {"delta": torch.ones(2), "steps": torch.ones(1)}), {}, Stream(0)
        )
    with pytest.raises(Unlawful, match="running statistics"):
        DPFedAvg(noise_multiplier=1.0).made_for(Network(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))))


# --- the sum ------------------------------------------------------------------------------------------------------


def test_one_site_moves_the_sum_by_at_most_the_clip_whatever_its_weight():
    """The noise has an address, so it cancels between the two sums."""
    site, made = DPFedAvg(noise_multiplier=1.0, clip=0.5), noisy()
    sent = [site.enforce(update(5.0, k, weight=10.0**k), {}) for k in range(6)]
    whole, without = (made.merge(group, {})[0] for group in (sent, sent[:-1]))
    moved = (whole.payload["delta"] - without.payload["delta"]).norm() * MANY.expected
    assert 0.49 < float(moved) <= 0.5 * (1 + 1e-4)
    assert whole.count == without.count == 40 and whole.weight == without.weight == 40.0


def test_a_denominator_of_those_who_came_is_caught():
    """Seeded bug: with the realised cohort below, a site that leaves moves what is released by more than C / m."""
    site = DPFedAvg(noise_multiplier=1.0, clip=0.5)
    sent = [site.enforce(update(5.0, k), {}).payload["delta"] for k in range(6)]
    realised = torch.stack(sent).mean(0) - torch.stack(sent[:-1]).mean(0)
    assert float(realised.norm()) > 0.5 / MANY.expected


def draws(noise, clip, rounds=400, **knobs):
    made = noisy(noise, clip, **knobs)
    nothing = [Update("a", t, 0.0, {"delta": torch.zeros(50), INSIDE: torch.zeros(1)}) for t in range(rounds)]
    return torch.stack([made.merge([u], {})[0].payload["delta"] for u in nothing]).double()


def p_of(values, deviation):
    below = stats.chi2.cdf(float((values / deviation).square().sum()), values.numel())
    return 2 * min(below, 1 - below)


def test_the_noise_of_the_sum_has_deviation_z_clip_over_the_expected_cohort():
    found = draws(1.7, 0.5)
    assert p_of(found, 1.7 * 0.5 / 40) > 1e-4
    for wrong in (1.7 / 40, 1.7 * 0.5, 1.7 * 0.5 / 40**2, 1.7 * 0.5 / 40 * 1.03):
        assert p_of(found, wrong) < 1e-4


def test_an_empty_round_is_noised_as_any_other():
    assert noisy().least == 0
    empty = noisy().merge([Update("nobody", 4, 0.0, {"delta": torch.zeros(50)})], {})[0]
    assert float(empty.payload["delta"].norm()) > 0


# --- the clip that moves ------------------------------------------------------------------------------------------


def follow(quantile, noise=0.01, rounds=200, people=200):
    """The clip after following planted lengths 1, 2, ... by the bits that sites send; ``noise`` on the count."""
    cohort = Cohort(people, rounds, 1.0)
    entry = DPFedAvg(noise_multiplier=1e-3, clip=300.0, quantile=quantile, count_noise=noise)
    made = entry.merge_for(cohort, Stream(4))
    memory = {}
    for t in range(rounds):
        here = entry.configured_by(made.broadcast_memory(memory))
        sent = [here.protect(update(1.0 + k, k, size=8, round=t), {}, Stream(0))[0] for k in range(people)]
        memory = made.merge([here.enforce(u, {}) for u in sent], memory)[1]
    return float(memory[CLIP])


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.8])
def test_the_clip_converges_to_the_quantile_of_planted_lengths(quantile):
    assert follow(quantile, rounds=60, people=100) == pytest.approx(quantile * 100, rel=0.1)


def test_it_still_does_with_the_noise_of_the_paper():
    assert follow(0.5, noise=5.0, rounds=80, people=100) == pytest.approx(50, rel=0.3)


def test_a_clip_that_hears_nothing_stays(monkeypatch):
    """Seeded bug: sites that keep the first clip call everything short, and the clip falls without end."""
    monkeypatch.setattr(DPFedAvg, "configured_by", lambda self, extra: self)
    assert follow(0.5, rounds=60, people=100) != pytest.approx(50, rel=0.3)


def test_sum_and_count_together_cost_what_z_costs():
    """Andrew et al., theorem 1: z^-2 = z_sum^-2 + (2 s)^-2; the sum's noise is really the larger one."""
    split = _central_noise.noise_of_the_sum(1.0, 2.0)
    assert split**-2 + (2 * 2.0) ** -2 == pytest.approx(1.0)
    found = draws(1.0, 0.5, quantile=0.5)  # count noise 40 / 20 = 2
    assert p_of(found, split * 0.5 / 40) > 1e-4
    assert p_of(found, 1.0 * 0.5 / 40) < 1e-4
    joint = epsilon([Gaussian(1.0)], 1e-5).epsilon
    alone = epsilon([Gaussian(split)], 1e-5).epsilon
    assert alone < joint < alone + epsilon([Gaussian(2 * 2.0)], 1e-5).epsilon


def test_a_count_that_costs_more_than_everything_is_refused_with_numbers():
    with pytest.raises(
        Unlawful, match=r"counting with noise 0.25 alone costs as much as a noise multiplier of 0.5, and"
    ):
        DPFedAvg(noise_multiplier=1.0, delta=1e-2, quantile=0.5).promise(Cohort(5, 50))


# --- the claim ----------------------------------------------------------------------------------------------------


def test_a_site_is_charged_by_its_coin_in_every_round():
    promise = DPFedAvg(noise_multiplier=1.0).promise(Cohort(400, 200, 0.05, "poisson"))
    assert promise.charge == PerUnit("site", PoissonSampled(0.05, Gaussian(1.0)))
    spent = epsilon([Composed(promise.charge, promise.rounds)], 1e-3).epsilon
    assert spent == pytest.approx(3.16, abs=0.005)  # notes: q = .05, z = 1, R = 200, delta 1e-3


def test_five_sites_in_every_round_have_an_epsilon_that_protects_nobody():
    promise = DPFedAvg(noise_multiplier=1.0, delta=1e-2).promise(Cohort(5, 50))
    assert epsilon([Composed(promise.charge, 50)], 1e-2).epsilon == pytest.approx(40.59, abs=0.01)
    with pytest.raises(Unlawful, match=r"delta = 0.25 is not below 1/n = 0.2 for 5 sites"):
        DPFedAvg(noise_multiplier=1.0, delta=0.25).promise(Cohort(5, 50))


def test_a_fixed_cohort_gets_no_amplification():
    fixed = Cohort(400, 200, 0.05)
    with pytest.raises(Unlawful, match="fixed number"):
        DPFedAvg(noise_multiplier=1.0).promise(fixed)
    promise = DPFedAvg(noise_multiplier=1.0, adjacency="replace-one").promise(fixed)
    assert promise.charge == PerUnit("site", Gaussian(1.0)) and "no amplification" in promise.sampler


def test_a_target_sets_the_noise_and_a_budget_the_rounds():
    target = DPFedAvg(epsilon=4.0).promise(MANY)
    assert 3.98 <= epsilon([Composed(target.charge, 100)], 1e-3).epsilon <= 4.0 and target.rounds == 100
    budget = DPFedAvg(epsilon=1.5, noise_multiplier=1.0).promise(MANY)
    assert 1 <= budget.rounds < 100
    costs = [epsilon([Composed(budget.charge, budget.rounds + more)], 1e-3).epsilon for more in (0, 1)]
    assert costs[0] <= 1.5 < costs[1]
    with pytest.raises(Unlawful, match="one round costs each site"):
        DPFedAvg(epsilon=0.01, noise_multiplier=0.5).promise(MANY)
