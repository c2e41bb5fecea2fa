"""DP-SGD per patient: whole patients are sampled and clipped, and what is claimed counts them."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from consilium.core.charge import Composed, Gaussian, PerUnit, PoissonSampled
from consilium.core.errors import Unlawful
from consilium.core.gradient import Objective, Schedule
from consilium.core.network import Network
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.training import _dp_sgd_rule
from consilium.defend.training.dp_sgd import DPSGD
from consilium.learn.mean_gradient import MeanGradient
from consilium.learn.objectives import TaskLoss
from consilium.learn.tasks.single_label import SingleLabel
from consilium.measure.accounting.noise_calibration import noise_multiplier
from consilium.measure.accounting.privacy import epsilon

CLIP = 0.5
ALL = Schedule(rounds=1, epochs=1, batch=0)
UNITS = torch.tensor([7, 7, 7, 2, 2, 9, 4, 4, 4, 4, 1, 3])
"""Six patients with one to four records each."""


def rule(**knobs):
    given = {"noise_multiplier": 1e-9, "delta": 1e-3, "clip": CLIP, "unit": "patient", **knobs}
    return DPSGD(**given).rule(MeanGradient())


def network():
    with scoped(Stream(0)):
        return Network(nn.Linear(4, 3))


def data(units=UNITS, seed=1):
    g = Stream(seed).generator()
    return Records.of(torch.rand(len(units), 4, generator=g), torch.randint(3, (len(units),), generator=g), units)


def total(made, records, net, scale=4.0, schedule=ALL):
    params, buffers = net.start()
    oracle = made.oracle(records, net, TaskLoss(SingleLabel()), schedule, Stream(5))
    return oracle(params * scale, buffers).value * made.count(records)


def closed_form(records, net, scale=4.0):
    """A linear layer's gradient of cross-entropy is (softmax - onehot) x^T; a patient's mean is clipped and summed."""
    params, _ = net.start()
    named = net.parameters_at(params * scale)
    weight, bias = (named[name] for name in ("weight", "bias"))
    out = torch.zeros_like(params)
    for unit in records.units.unique():
        own = records.units == unit
        x, y = records.x[own], records.y[own]
        error = (x @ weight.T + bias).softmax(1) - nn.functional.one_hot(y, 3)
        by_name = {"weight": error.T @ x / len(x), "bias": error.mean(0)}
        gradient = torch.cat([by_name[name].flatten() for name in named])
        out += gradient * min(1.0, CLIP / float(gradient.norm()))
    return out


def test_the_sum_is_that_of_the_patients_clipped_mean_gradients():
    net, records = network(), data()
    torch.testing.assert_close(total(rule(), records, net), closed_form(records, net), rtol=1e-4, atol=1e-5)
    # Clipping records and not patients is another sum: the test can fail.
    per_record = total(rule(unit="example"), records, net)
    assert float((per_record - closed_form(records, net)).norm()) > CLIP


def moved_without(made, unit):
    """How far the sum moves without one patient; noise has the same address, so it cancels."""
    net, records = network(), data()
    less = records.select(torch.nonzero(records.units != unit)[:, 0])
    return float((total(made, records, net) - total(made, less, net)).norm())


def test_a_patient_with_many_records_moves_the_sum_by_at_most_the_clip():
    assert 0.5 * CLIP < moved_without(rule(), 4) <= CLIP * (1 + 1e-4)


def test_clipping_records_under_a_patients_name_is_caught(monkeypatch):
    engine = _dp_sgd_rule.clipped_sum

    def by_record(*given, unit=None, **how):
        return engine(*given, unit=None, **how)

    monkeypatch.setattr(_dp_sgd_rule, "clipped_sum", by_record)
    assert moved_without(rule(), 4) > CLIP * (1 + 1e-4)


def test_a_patient_whose_gradient_is_not_finite_counts_as_nothing():
    net, records = network(), data()
    x = records.x.clone()
    x[8] = math.inf
    broken = Records(x, records.y, records.ids, records.units)
    without = records.select(torch.nonzero(records.units != 4)[:, 0])
    torch.testing.assert_close(total(rule(), broken, net), closed_form(without, net), rtol=1e-4, atol=1e-5)


class Marked(Objective):
    """Each record's gradient points in a direction of its own (its x), so that the sum tells who was in the sample."""

    def losses(self, predict, batch):
        return predict(batch["x"])[:, 0] * 1e3


def samples(steps, batch=2):
    """Which of the six patients were in each sample ``(steps, 6)``, and with how much of her direction."""
    names, of = torch.unique(UNITS, return_inverse=True)
    x = nn.functional.one_hot(of, len(names)).float()
    with scoped(Stream(0)):
        net = Network(nn.Linear(len(names), 1, bias=False))
    records = Records.of(x, torch.zeros(len(x), dtype=torch.long), UNITS)
    params, buffers = net.start()
    oracle = rule().oracle(records, net, Marked(), Schedule(1, 1, batch), Stream(3))
    return torch.stack([oracle(params, buffers).value for _ in range(steps)]) * batch / CLIP


def test_patients_are_poisson_sampled_whole_and_the_denominator_is_the_expected_number():
    drawn, q = samples(600), 2 / 6
    assert torch.allclose(drawn, drawn.round(), atol=1e-3)  # clipped to C and divided by B, for one record or four
    assert set(drawn.round().flatten().tolist()) == {0.0, 1.0}
    share = drawn.round().mean(0)
    assert float((share - q).abs().max()) < 4.5 * math.sqrt(q * (1 - q) / 600)
    sizes = drawn.round().sum(1)
    expected = stats.binom(6, q)
    assert abs(float(sizes.mean()) - expected.mean()) < 4.5 * expected.std() / math.sqrt(600)
    assert abs(float(sizes.var()) / expected.var() - 1) < 0.35  # coins are independent between patients
    assert (sizes == 0).any()


def test_steps_rate_and_charge_count_patients():
    made, records, work = rule(noise_multiplier=1.5), data(), Schedule(3, 2, 2)
    assert made.count(records) == 6 and rule(unit="example").count(records) == 12
    oracle = made.oracle(records, network(), TaskLoss(SingleLabel()), work, Stream(0))
    assert oracle.steps == 6  # ceil(E n / B) with n = 6
    oracle(*network().start())
    assert oracle.charge() == Composed(PerUnit("patient", PoissonSampled(2 / 6, Gaussian(1.5))), 1)
    assert made.step_charge(6, work) == PerUnit("patient", PoissonSampled(2 / 6, Gaussian(1.5)))


def test_too_few_patients_and_a_large_delta_are_refused_in_patients():
    with pytest.raises(Unlawful, match="6 training patients are fewer than the expected batch of 8"):
        rule().oracle(data(), network(), TaskLoss(SingleLabel()), Schedule(1, 1, 8), Stream(0))
    with pytest.raises(Unlawful, match=r"delta = 0.2 is not below 1/n = 0.16"):
        rule(delta=0.2).step_charge(6, ALL)


def test_replace_one_needs_more_noise_for_the_same_target():
    work = Schedule(10, 1, 32)
    made = [
        rule(noise_multiplier=None, epsilon=4.0, delta=1e-4, adjacency=a) for a in ("add-or-remove-one", "replace-one")
    ]
    add, replace = (m.noise_multiplier(400, work) for m in made)
    assert replace > 1.2 * add
    assert replace == noise_multiplier(4.0, 1e-4, 32 / 400, 10 * 13, "replace-one")
    spent = epsilon([Composed(made[1].step_charge(400, work), 130)], 1e-4, "replace-one").epsilon
    assert 3.98 <= spent <= 4.0


def test_a_budget_bounds_the_rounds_and_one_that_allows_none_is_refused_with_numbers():
    work = Schedule(50, 1, 32)
    made = rule(noise_multiplier=1.0, epsilon=4.0, delta=1e-4)
    most = made.most_rounds(400, work)
    each = Composed(made.step_charge(400, work), 13)
    assert 1 < most < 50
    assert epsilon([each] * most, 1e-4).epsilon <= 4.0 < epsilon([each] * (most + 1), 1e-4).epsilon
    assert rule(noise_multiplier=1.0, delta=1e-4).most_rounds(400, work) == 50
    with pytest.raises(Unlawful, match=r"one round of 13 steps costs epsilon .* and the budget is 0.01") as caught:
        rule(noise_multiplier=0.5, epsilon=0.01, delta=1e-4).most_rounds(400, work)
    assert "noise-multiplier of" in caught.value.remedy
