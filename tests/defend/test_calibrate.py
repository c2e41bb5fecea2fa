"""Calibration: known shifts and temperatures are recovered, thresholds come back, and it composes and is stored."""

import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional as F

from consilium.core.errors import Failed, Refused
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.model._calibrated import Calibrated
from consilium.defend.model._calibration_fit import fit_calibration
from consilium.defend.model.calibrate import Calibrate
from consilium.defend.model.prune import Prune
from consilium.defend.model.static_int8 import StaticInt8
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.single_label import SingleLabel

TASK = SingleLabel()


def planted(n, shift, temperature, seed=0):
    """Logits z of a model that answers softmax(z), where the truth is softmax(z / temperature + shift)."""
    g = Stream(seed).generator()
    z = 2 * torch.randn(n, len(shift), generator=g).double()
    y = torch.multinomial(F.softmax(z / temperature + torch.tensor(shift).double(), 1), 1, generator=g)[:, 0]
    return z, y


# --- the fit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_known_shift_and_temperature_are_recovered_within_their_intervals(seed):
    shift, temperature = [1.5, -0.5, -1.0], 2.0
    found = fit_calibration(*planted(2000, shift, temperature, seed))
    assert abs(found.scale - 1 / temperature) < 4 * found.scale_deviation
    assert ((found.bias - torch.tensor(shift).double()).abs() < 4 * found.bias_deviation).all()
    assert found.scale_deviation < 0.03 and float(found.bias_deviation.max()) < 0.1


def test_the_intervals_are_as_wide_as_the_fits_scatter():
    fits = [fit_calibration(*planted(400, [1.5, -0.5, -1.0], 2.0, seed)) for seed in range(60)]
    scatter = torch.stack([f.bias for f in fits]).std(0)
    torch.testing.assert_close(fits[0].bias_deviation, scatter, rtol=0.35, atol=0)
    assert fits[0].scale_deviation == pytest.approx(float(torch.tensor([f.scale for f in fits]).std()), rel=0.35)
    assert all(abs(float(f.bias.sum())) < 1e-9 for f in fits)


def test_a_fit_that_ignores_the_shift_is_caught():
    found = fit_calibration(*planted(2000, [1.5, -0.5, -1.0], 2.0), biased=False)
    assert torch.equal(found.bias, torch.zeros(3).double()) and float(found.bias_deviation.max()) == 0


def test_the_temperature_of_two_points_has_a_closed_form():
    """Logits +-1 that are right in 3 of 4 cases: softmax(a z) must answer 3/4, so 2 a = log 3."""
    logits = torch.tensor([[1.0, -1.0]]).repeat(40_000, 1)
    y = (torch.arange(40_000) % 4 == 0).long()
    found = fit_calibration(logits, y, biased=False)
    assert found.scale == pytest.approx(torch.tensor(3.0).log().item() / 2, rel=1e-4)


def test_the_gradient_is_zero_at_the_fit():
    logits, y = planted(300, [1.0, 0.0, -1.0], 3.0)
    found = fit_calibration(logits, y)
    at = torch.cat([torch.tensor([found.scale]).double(), found.bias]).requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(at[0] * logits + at[1:], y, reduction="sum"), at)
    assert float(g[1:].abs().max()) <= 0.011 * float(found.bias.abs().max())  # the ridge alone pulls
    assert abs(float(g[0])) < 0.1


def test_records_that_are_told_apart_without_an_error_have_a_finite_fit():
    y = torch.arange(60) % 3
    found = fit_calibration(5.0 * F.one_hot(y), y)
    assert 0 < found.scale < 10 and bool(found.bias.isfinite().all())


def test_logits_that_rank_worse_than_chance_get_the_least_scale_not_a_negative_one():
    y = torch.arange(60) % 3
    assert 0 < fit_calibration(-5.0 * F.one_hot(y), y).scale < 1e-2


def test_constant_logits_get_the_shares_of_the_classes():
    y = torch.tensor([0] * 60 + [1] * 20 + [2] * 20)
    found = fit_calibration(torch.zeros(100, 3), y)
    torch.testing.assert_close(F.softmax(found.bias, 0), torch.tensor([0.6, 0.2, 0.2]).double(), rtol=0, atol=1e-3)
    assert found.scale == 1.0


@pytest.mark.parametrize("factor", [1e-4, 1.0, 100.0])
def test_a_model_whose_logits_are_scaled_is_calibrated_to_the_same_answers(factor):
    logits, y = planted(400, [1.0, 0.0, -1.0], 1.0)
    one, other = fit_calibration(logits, y), fit_calibration(factor * logits, y)
    assert other.scale * factor == pytest.approx(one.scale, rel=1e-6)
    torch.testing.assert_close(other.bias, one.bias, rtol=1e-6, atol=1e-8)


# --- the defence --------------------------------------------------------------------------------------------------


class Skewed(nn.Module):
    """Ranks two classes by brightness, and answers one of them nearly always."""

    def __init__(self, bias):
        super().__init__()
        self.flat, self.head = nn.Flatten(), nn.Linear(64, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.stack([-torch.ones(64), torch.ones(64)]) / 8)
            self.head.bias.copy_(torch.tensor([4.0 - bias, -4.0 + bias]))

    def forward(self, x):
        return self.head(self.flat(x))


def bright(n, share=0.5, seed=3):
    g = Stream(seed).generator()
    y = (torch.rand(n, generator=g) < share).long()
    level = 0.5 + 0.12 * (2 * y - 1) + 0.1 * torch.randn(n, generator=g)
    return Records.of((level.view(-1, 1, 1, 1) + 0.05 * torch.randn(n, 1, 8, 8, generator=g)).clamp(0, 1), y)


def balanced(model, records):
    answers = model(records.x).argmax(1)
    return float(torch.stack([(answers[records.y == c] == c).float().mean() for c in (0, 1)]).mean())


def calibrated(model, public, **knobs):
    return Calibrate(**knobs).apply(model.eval(), public, Stream(0), TASK)


def test_a_threshold_that_was_lost_comes_back():
    test, skewed = bright(2000, seed=4), Skewed(5.0)
    whole = balanced(Skewed(0.0), test)
    assert balanced(skewed, test) < 0.55 < 0.85 < whole
    assert balanced(calibrated(skewed, bright(100)), test) > whole - 0.02
    assert balanced(calibrated(skewed, bright(100), fit="temperature"), test) < 0.55


def test_a_declared_prior_undoes_the_public_slices_own():
    """A slice of 90 % of one class moves the threshold; equal shares put it back, others do not."""
    test, public, skewed = bright(2000, seed=4), bright(400, 0.9), Skewed(5.0)
    own, equal = (balanced(calibrated(skewed, public, **k), test) for k in ({}, {"prior": (1.0, 1.0)}))
    assert equal > balanced(Skewed(0.0), test) - 0.02 > own


def test_a_prior_moves_the_logits_by_its_log_ratio():
    public = bright(200, 0.75)
    share = public.y.float().mean()
    own, other = calibrated(Skewed(1.0), public), calibrated(Skewed(1.0), public, prior=(1.0, 3.0))
    apart = other.shift - own.shift
    assert float(apart[1] - apart[0]) == pytest.approx(float((3 * (1 - share) / share).log()), abs=1e-5)
    assert float(other.factor) == float(own.factor)


def test_the_model_it_is_handed_stays_as_it_was():
    net, before = Skewed(2.0).eval(), [p.clone() for p in Skewed(2.0).parameters()]
    made = calibrated(net, bright(50))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(made.model.parameters(), before, strict=True))


def conv(seed=0):
    with scoped(Stream(seed)):
        layers = [nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2)]
        return nn.Sequential(*layers).eval().requires_grad_(False)


CHAINS = [[Calibrate()], [StaticInt8(), Calibrate()], [Prune(0.9, 0), Calibrate(prior=(1.0, 2.0))],
          [Prune(0.5, 0), StaticInt8(), Calibrate()]]  # fmt: skip


@pytest.mark.parametrize("chain", CHAINS, ids=lambda c: "+".join(d.kind() for d in c))
def test_after_pruning_and_int8_it_is_stored_and_followed_to_the_bit(chain):
    public, module, surrogate = bright(80), conv(), conv()
    for defence in chain:
        module = defence.apply(module, public, Stream(0), TASK)
        surrogate = defence.surrogate(module, surrogate)
    stored, shaped = load(save(chain[-1].pack(module))), conv(seed=9)
    for defence in chain:
        shaped = defence.structure(shaped, public.x[:1])
    again = chain[-1].unpack(shaped, stored)
    assert torch.equal(again(public.x), module(public.x))
    x = public.x.clone().requires_grad_()
    out = surrogate(x)
    assert torch.equal(out.detach(), module(public.x))
    assert float(torch.autograd.grad(out[:, 0].sum(), x)[0].abs().max()) > 0


def test_a_pruned_model_stays_small():
    pruned = Prune(0.9, 0).apply(conv(), bright(80), Stream(0), TASK)
    alone = len(save(Prune().pack(pruned)))
    assert len(save(Calibrate().pack(calibrated(pruned, bright(80))))) < alone + 200


def test_an_int8_model_stays_small():
    small = StaticInt8().apply(conv(), bright(80), Stream(0), TASK)
    alone = len(save(StaticInt8().pack(small)))
    assert len(save(Calibrate().pack(calibrated(small, bright(80))))) < alone + 200


# --- refusals -----------------------------------------------------------------------------------------------------


def test_without_public_records_or_without_one_of_a_class_there_is_no_fit():
    none = bright(10).select(torch.zeros(10, dtype=torch.bool))
    with pytest.raises(Refused, match="no public records") as refused:
        calibrated(conv(), none)
    assert "data.public" in refused.value.remedy
    one = bright(10, share=0.0)
    with pytest.raises(Refused, match="none of the 10 public records is of 'ill'"):
        Calibrate().check_public(one, ("well", "ill"))
    Calibrate(fit="temperature").check_public(one, ("well", "ill"))
    with pytest.raises(Refused, match="none of the 10"):
        calibrated(conv(), one)


def test_a_prior_of_another_number_of_classes_is_refused():
    with pytest.raises(Refused, match="3 shares and there are 2 classes"):
        Calibrate(prior=(1.0, 1.0, 1.0)).check_fit((1, 8, 8), 2)


@pytest.mark.parametrize("prior", [(0.5,), (0.0, 1.0), (-1.0, 2.0), (float("inf"), 1.0), (float("nan"), 1.0)])
def test_a_prior_that_is_no_share_is_refused(prior):
    with pytest.raises(Refused, match="out of range"):
        Calibrate(prior=prior)


def test_a_task_without_classes_is_refused():
    with pytest.raises(Refused, match="single-label"):
        Calibrate().check_task(MultiLabel())


def test_answers_that_are_no_numbers_are_an_error():
    broken = conv()
    broken[4].weight.fill_(float("nan"))
    with pytest.raises(Failed, match="not finite"):
        calibrated(broken, bright(20))


def test_it_changes_nothing_until_it_is_fitted():
    x = bright(5).x
    assert torch.equal(Calibrated.unfitted(conv(), 2)(x), conv()(x))
