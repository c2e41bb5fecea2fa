"""DP-SGD: what one record can change, how much noise there is, what is charged, and what is refused."""

import math
from functools import cache

import pytest
import torch
from scipy import stats
from torch import nn

from consilium.core.charge import Composed, Gaussian, PoissonSampled
from consilium.core.errors import Refused, Unlawful
from consilium.core.gradient import GradientRule, Objective, Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.training import _dp_sgd_rule
from consilium.defend.training.adversarial_training import AdversarialTraining
from consilium.defend.training.dp_sgd import DPSGD
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.per_example import ClippedSum
from consilium.learn.tasks.single_label import SingleLabel
from consilium.measure.accounting.noise_calibration import noise_multiplier
from consilium.measure.accounting.privacy import epsilon

CLIP, ALL, LOSS = 0.5, Schedule(rounds=1, epochs=1, batch=0), TaskLoss(SingleLabel())


def rule(**knobs):
    return DPSGD(**{"noise_multiplier": 1.0, "delta": 1e-3, "clip": CLIP, **knobs}).rule(MeanGradient())


def conv():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(64, 3),
    )  # fmt: skip


def network(module=None, seed=0):
    with scoped(Stream(seed)):
        return Network(module or conv())


def data(n=40, seed=1, shape=(1, 8, 8)):
    g = Stream(seed).generator()
    return Records.of(torch.rand(n, *shape, generator=g), torch.randint(3, (n,), generator=g))


def gradient(made, records, net, objective=None, schedule=ALL, seed=5, scale=1.0):
    params, buffers = net.start()
    return made.oracle(records, net, objective or LOSS, schedule, Stream(seed))(params * scale, buffers).value


# --- what one record can change -----------------------------------------------------------------------------------


def moved_by_leaving_out(made, records, net, objective=None):
    """How far the pre-noise sum moves without the last record: the noise has the same address, so it cancels."""
    n = len(records)
    less = records.select(torch.arange(n - 1))
    whole = gradient(made, records, net, objective, scale=4.0) * n
    return float((whole - gradient(made, less, net, objective, scale=4.0) * (n - 1)).norm())


def moved_by_replacing(made, net, objective, n=12):
    """The same when the first record is replaced by its opposite, at the given objective."""
    records = data(n)
    x, y = records.x.clone(), records.y.clone()
    x[0], y[0] = 1 - x[0].round(), (y[0] + 1) % 3
    other = Records(x, y, records.ids, records.units)
    both = [gradient(made, r, net, objective, scale=4.0) * n for r in (records, other)]
    return float((both[0] - both[1]).norm())


@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_one_record_moves_the_sum_by_at_most_the_clip(chunk):
    moved = moved_by_leaving_out(rule(chunk=chunk), data(), network())
    assert 0.9 * CLIP < moved <= CLIP * (1 + 1e-4)


@pytest.mark.parametrize("attack", [AdversarialTraining(0.1, steps=1), AdversarialTraining(0.1, steps=3, share=0.5)])
def test_adversarial_training_inside_keeps_that(attack):
    moved = moved_by_replacing(rule(), network(), attack.objective(LOSS))
    assert 0.5 * CLIP < moved <= 2 * CLIP * (1 + 1e-4)


class Universal(TaskLoss):
    """Seeded bug: one perturbation for the whole batch, fitted to all of it."""

    def prepare(self, predict, x, y, generator):
        leaf = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(self.losses(predict, {"x": leaf, "y": y}).sum(), leaf)
        return {"x": (x + 0.3 * g.sum(0, keepdim=True).sign()).clamp(0, 1), "y": y}


def test_a_batch_shared_perturbation_is_caught():
    moved = [moved_by_replacing(rule(), network(seed=s), Universal(SingleLabel()), n=8) for s in range(4)]
    assert max(moved) > 2 * CLIP * (1 + 1e-4)


def test_clipping_the_batch_is_caught(monkeypatch):
    def batch_clipped(net, params, buffers, objective, batch, clip, chunk, **how):
        at, n = params.clone().requires_grad_(), len(batch["y"])
        losses = objective.losses(lambda x: net.logits(at, buffers, x), batch)
        (g,) = torch.autograd.grad(losses.mean(), at)
        return ClippedSum(n * g * min(1.0, clip / float(g.norm())), clip)

    monkeypatch.setattr(_dp_sgd_rule, "clipped_sum", batch_clipped)
    assert moved_by_leaving_out(rule(), data(), network()) > CLIP * (1 + 1e-4)


def test_without_noise_and_clip_it_is_the_mean_gradient():
    net, records = network(), data()
    made = gradient(rule(noise_multiplier=1e-9, clip=1e3), records, net)
    torch.testing.assert_close(made, gradient(MeanGradient(), records, net), rtol=1e-4, atol=1e-5)


def test_scaled_by_the_clip_it_is_the_mean_of_directions_and_spends_the_same():
    net, records = network(), data()
    small, large = (rule(noise_multiplier=1.0, clip=c, scale=1 / c) for c in (1e-4, 1e-3))
    # Every gradient is longer than both clips, and the noise has one address: nothing depends on the clip any more.
    torch.testing.assert_close(gradient(small, records, net), gradient(large, records, net), rtol=1e-3, atol=1e-5)
    plain = gradient(rule(noise_multiplier=1.0, clip=1e-3), records, net)
    torch.testing.assert_close(gradient(large, records, net), plain / 1e-3, rtol=1e-6, atol=0)
    assert small.step_charge(40, ALL) == rule(noise_multiplier=1.0).step_charge(40, ALL)


# --- noise --------------------------------------------------------------------------------------------------------


class Silent(TaskLoss):
    """No gradient at all: what comes out is the noise."""

    def losses(self, predict, batch):
        return 0 * super().losses(predict, batch)


@cache
def silence():
    """Noise of 300 steps at sigma 1.7 over 40 records in batches of 8, ``(300, d)``."""
    net = network()
    params, buffers = net.start()
    oracle = rule(noise_multiplier=1.7).oracle(data(), net, Silent(SingleLabel()), Schedule(1, 1, 8), Stream(9))
    return torch.stack([oracle(params, buffers).value for _ in range(300)]).double()


def chi_square_p(draws, deviation):
    """Two-sided p-value that ``draws`` are normal with this standard deviation, by the sum of their squares."""
    below = stats.chi2.cdf(float((draws / deviation).square().sum()), draws.numel())
    return 2 * min(below, 1 - below)


def test_the_noise_has_deviation_sigma_clip_over_batch():
    draws = silence()
    assert chi_square_p(draws, 1.7 * CLIP / 8) > 1e-4
    assert stats.kstest((draws.flatten() / (1.7 * CLIP / 8)).numpy(), "norm").pvalue > 1e-4


@pytest.mark.parametrize("wrong", [1.7 / 8, 1.7 * CLIP, 1.7 * CLIP / 64, 1.7 * CLIP / 8 * 1.02])
def test_the_noise_test_can_fail(wrong):
    """Clip forgotten, B forgotten, divided by B twice, two percent off."""
    assert chi_square_p(silence(), wrong) < 1e-4


def test_steps_and_coordinates_are_independent():
    draws = silence()
    unit = draws / draws.norm(dim=1, keepdim=True)
    overlap = (unit @ unit.T - torch.eye(len(unit))).abs().max()
    assert overlap < 6 / math.sqrt(draws.shape[1])


# --- sampling -----------------------------------------------------------------------------------------------------


class Constant(Objective):
    """Every record's gradient is the same long vector, so the clipped sum counts the records."""

    def prepare(self, predict, x, y, generator):
        return {"x": x, "y": y}

    def losses(self, predict, batch):
        return predict(torch.ones_like(batch["x"])).sum(1) * 1e3


def counts(n, batch, steps, seed=3):
    """Sample sizes, read from the released value: denominator and clipping are known."""
    net = network(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    params, buffers = net.start()
    made = rule(noise_multiplier=1e-9)
    oracle = made.oracle(data(n, shape=(1, 2, 2)), net, Constant(), Schedule(1, 1, batch), Stream(seed))
    norms = torch.stack([oracle(params, buffers).value.norm() for _ in range(steps)])
    return norms / CLIP * batch


def test_samples_are_poisson_and_the_denominator_is_the_expected_batch():
    """Were the sum divided by the realised size, every count read here would be the expected one."""
    sizes = counts(n=10, batch=2, steps=300)
    assert torch.allclose(sizes, sizes.round(), atol=1e-3)
    expected = stats.binom(10, 0.2)
    assert abs(float(sizes.mean()) - expected.mean()) < 4 * expected.std() / math.sqrt(300)
    assert abs(float(sizes.var()) / expected.var() - 1) < 0.4
    assert (sizes.round() == 0).any()


def test_an_empty_sample_is_noised_and_charged():
    net = network()
    params, buffers = net.start()
    made = rule(noise_multiplier=2.0)
    oracle = made.oracle(data(30), net, LOSS, Schedule(1, 1, 1), Stream(0))
    empty = [not (coins < 1 / 30).any() for coins in _coins(30, 60, Stream(0))]
    assert sum(empty) > 5
    for number in range(60):
        value = oracle(params, buffers).value
        assert float(value.norm()) > 0
        if empty[number]:
            assert chi_square_p(value.double(), 2.0 * CLIP) > 1e-4
    assert oracle.charge() == Composed(PoissonSampled(1 / 30, Gaussian(2.0)), 60)


def _coins(n, steps, stream):
    for step in range(steps):
        generator = stream.child("step", step, "sample").generator()
        yield torch.rand(n, generator=generator, dtype=torch.float64)


# --- charges and schedules ----------------------------------------------------------------------------------------


def test_every_call_is_charged_and_only_calls():
    net = network()
    params, buffers = net.start()
    oracle = rule().oracle(data(40), net, LOSS, Schedule(3, 2, 8), Stream(0))
    assert oracle.steps == 10
    assert epsilon([oracle.charge()], 1e-5).epsilon == 0
    for _ in range(4):
        oracle(params, buffers)
    assert oracle.charge() == Composed(PoissonSampled(0.2, Gaussian(1.0)), 4)


@pytest.mark.parametrize("n", [100, 400, 1000])
def test_a_target_sets_sigma_per_site_for_all_rounds(n):
    made, work = rule(epsilon=6.0, noise_multiplier=None, delta=1e-4), Schedule(10, 1, 32)
    sigma = made.noise_multiplier(n, work)
    assert sigma == noise_multiplier(6.0, 1e-4, 32 / n, 10 * -(-n // 32))
    spent = epsilon([Composed(made.step_charge(n, work), 10 * work.steps(n))], 1e-4).epsilon
    assert 5.97 <= spent <= 6.0


def test_a_given_sigma_is_the_same_everywhere_and_the_smallest_site_is_the_maximum():
    made, work = rule(delta=1e-4), Schedule(10, 1, 32)
    assert {made.noise_multiplier(n, work) for n in (100, 400, 1000)} == {1.0}
    spent = [epsilon([Composed(made.step_charge(n, work), 10 * work.steps(n))], 1e-4).epsilon for n in (100, 400, 1000)]
    assert spent == sorted(spent, reverse=True)


def test_its_own_batch_replaces_the_federation_s():
    made = rule(batch=16)
    assert made.schedule(Schedule(10, 2, 64)) == Schedule(10, 2, 16)
    assert rule().schedule(Schedule(10, 2, 64)) == Schedule(10, 2, 64)
    assert made.step_charge(40, Schedule(10, 2, 64)) == PoissonSampled(0.4, Gaussian(1.0))
    assert made.oracle(data(40), network(), LOSS, Schedule(10, 2, 64), Stream(0)).steps == 5


def test_all_at_once_is_rate_one():
    assert rule().step_charge(40, ALL) == PoissonSampled(1.0, Gaussian(1.0))
    with pytest.raises(Unlawful, match="the study asks for all records in every step"):
        rule(batch=16).schedule(ALL)


# --- refusals -----------------------------------------------------------------------------------------------------


def test_fewer_records_than_the_batch_are_refused_naming_both():
    with pytest.raises(Unlawful, match="20 training records are fewer than the expected batch of 32"):
        rule().step_charge(20, Schedule(1, 1, 32))
    with pytest.raises(Unlawful, match="batch"):
        rule().oracle(data(20), network(), LOSS, Schedule(1, 1, 32), Stream(0))


def test_a_delta_of_one_over_n_is_refused():
    with pytest.raises(Unlawful, match=r"delta = 0.001 is not below 1/n = 0.001"):
        rule().step_charge(1000, Schedule(1, 1, 32))
    assert rule().step_charge(999, Schedule(1, 1, 32)) is not None


class Buffered(nn.Module):
    """Counts what it has seen, like running statistics do."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.out = nn.Linear(64, 3)

    def forward(self, x):
        if self.training:
            self.seen += x.mean()
        return self.out(x.flatten(1))


class Centred(nn.Module):
    """A hand-written batch normalisation."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(64, 3)

    def forward(self, x):
        return self.out((x - x.mean(0)).flatten(1))


BATCHED = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
INSTANCE = nn.Sequential(nn.InstanceNorm2d(1, track_running_stats=True), nn.Flatten(), nn.Linear(64, 3))


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (BATCHED, "BatchNorm2d"),
        (INSTANCE, "InstanceNorm2d"),
        (Buffered(), "buffers"),
        (Centred(), "other examples of its batch"),
    ],
)
def test_modules_that_mix_examples_are_refused_with_the_reason(module, reason):
    with pytest.raises(Unlawful, match=reason) as refused:
        rule().refuse(network(module), (1, 8, 8))
    assert refused.value.remedy
    with pytest.raises(Unlawful, match=reason):
        rule().oracle(data(), network(module), LOSS, ALL, Stream(0))


@pytest.mark.parametrize("module", [conv(), nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3))])
def test_modules_that_do_not_are_not(module):
    rule().refuse(network(module), (1, 8, 8))


class OtherRule(GradientRule):
    def schedule(self, asked):
        return asked

    def step_charge(self, n, schedule):
        return None

    def oracle(self, records, network, objective, schedule, stream):
        raise NotImplementedError


def test_it_wraps_the_plain_mean_only():
    with pytest.raises(Unlawful, match="twice"):
        DPSGD(epsilon=1.0).rule(rule())
    with pytest.raises(Unlawful, match="OtherRule"):
        DPSGD(epsilon=1.0).rule(OtherRule())


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"epsilon": 0.0},
        {"epsilon": math.inf},
        {"noise_multiplier": 0.0},
        {"epsilon": 1.0, "clip": 0.0},
        {"epsilon": 1.0, "clip": math.nan},
        {"epsilon": 1.0, "delta": 0.0},
        {"epsilon": 1.0, "batch": 0},
        {"epsilon": 1.0, "chunk": 0},
    ],
)
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refused):
        DPSGD(**knobs)


# --- manners ------------------------------------------------------------------------------------------------------


def test_address_decides_everything_and_nothing_else_changes():
    net, records = network(nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3))), data()
    before, state = records.x.clone(), torch.random.get_rng_state()
    one = gradient(rule(), records, net, schedule=Schedule(1, 1, 8))
    assert torch.equal(one, gradient(rule(), records, net, schedule=Schedule(1, 1, 8)))
    assert not torch.equal(one, gradient(rule(), records, net, schedule=Schedule(1, 1, 8), seed=6))
    assert torch.equal(before, records.x)
    assert torch.equal(state, torch.random.get_rng_state())


def test_it_learns_a_planted_signal():
    g = Stream(2).generator()
    y = torch.randint(2, (400,), generator=g)
    records = Records.of(0.2 * torch.rand(400, 1, 4, 4, generator=g) + 0.6 * y.view(-1, 1, 1, 1), y)
    net = network(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)))
    made, work = DPSGD(epsilon=2.0, delta=1e-4).rule(MeanGradient()), Schedule(rounds=1, epochs=5, batch=40)
    params, buffers = net.start()
    oracle = made.oracle(records, net, LOSS, work, Stream(4))
    for _ in range(oracle.steps):
        params = params - 0.5 * oracle(params, buffers).value
    assert (net.logits(params, buffers, records.x).argmax(1) == y).float().mean() > 0.95
    assert epsilon([oracle.charge()], 1e-4).epsilon <= 2.0
