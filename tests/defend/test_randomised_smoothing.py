"""The radius that votes under noise prove, against its closed form on a linear model."""

import math

import pytest
import torch
from scipy.stats import beta, norm
from torch import nn

from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.defend.answer._smoothed import certified_radius
from consilium.defend.answer.randomised_smoothing import RandomisedSmoothing
from consilium.learn.record_noise import record_noise
from consilium.learn.tasks.single_label import SingleLabel
from consilium.study.evaluate.release import Answering, certificates

SIGMA = 0.5


def halfplane():
    """Class 1 where x_0 > x_1: the distance to the boundary is |x_0 - x_1| / sqrt(2)."""
    model = nn.Linear(2, 2, bias=False).requires_grad_(False)
    model.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    return model


POINTS = torch.tensor([[0.9, 0.1], [0.1, 0.7], [0.55, 0.45], [0.3, 0.9]])
LABELS = torch.tensor([1, 0, 0, 0])


def test_the_radius_is_the_formula_of_cohen():
    votes = torch.tensor([1000, 990, 501, 0])
    lower = beta.ppf(0.001, votes.clamp_min(1).numpy(), 1000 - votes.numpy() + 1)
    expected = [SIGMA * norm.ppf(p) if p > 0.5 else 0 for p in lower]
    expected[3] = 0
    assert certified_radius(votes, 1000, SIGMA, 0.001).tolist() == pytest.approx(expected)
    assert expected[0] == pytest.approx(SIGMA * norm.ppf(0.001 ** (1 / 1000)))
    assert expected[2] == 0, "a majority that is not proven proves nothing"


def test_on_a_linear_model_the_radius_comes_close_to_the_distance_and_never_beyond():
    defence = RandomisedSmoothing(SIGMA, certificate_samples=20000)
    records = Records.of(POINTS, LABELS)
    every = defence.certificate(halfplane(), records, SingleLabel(), Stream(3))
    measures = {m.name: m for m in every}
    distances = [0.8 / math.sqrt(2), 0.6 / math.sqrt(2), 0.0, 0.6 / math.sqrt(2)]  # the third is answered wrongly
    mean = measures["average_certified_radius"].value
    assert 0.9 * sum(distances) / 4 < mean <= sum(distances) / 4
    assert measures["certified_accuracy"].value == 0.75 and measures["certified_accuracy"].n == 4
    assert measures["certified_accuracy_at_sigma"].value == 0.25, "0.566 alone is beyond 0.5"


def test_the_votes_are_those_under_noise():
    shares = RandomisedSmoothing(SIGMA, samples=4000).around(halfplane())(POINTS).exp()
    gap = (POINTS[:, 0] - POINTS[:, 1]) / (SIGMA * math.sqrt(2))
    assert torch.allclose(shares[:, 1], torch.from_numpy(norm.cdf(gap.numpy())).float(), atol=0.03)


def test_an_answer_depends_on_its_record_alone_and_stays():
    asked = Answering(halfplane(), [RandomisedSmoothing(SIGMA, samples=50)])
    together = asked(POINTS)
    assert torch.equal(asked(POINTS), together)
    assert torch.equal(torch.cat([asked(point[None]) for point in POINTS]), together)


def test_the_noise_of_a_record_is_its_own():
    noise = record_noise(POINTS, 3000)
    assert noise.shape == (4, 3000, 2)
    assert torch.equal(record_noise(POINTS[2:3], 3000)[0], noise[2])
    assert abs(float(noise.mean())) < 0.03 and abs(float(noise.std()) - 1) < 0.03
    assert not torch.equal(record_noise(POINTS[:1] + 1e-7, 3000)[0], noise[0])


def test_the_surrogate_has_a_gradient_towards_the_boundary():
    x = POINTS.clone().requires_grad_()
    followed = RandomisedSmoothing(SIGMA).surrogate(halfplane())
    (gradient,) = torch.autograd.grad(followed(x)[:, 1].sum(), x)
    assert bool((gradient[:, 0] > 0).all()) and bool((gradient[:, 1] < 0).all())
    assert RandomisedSmoothing().surrogate(None) is None


def test_the_certificate_is_of_what_stands_behind_the_defence():
    records = Records.of(POINTS, LABELS)
    defence = RandomisedSmoothing(SIGMA, certificate_samples=200)
    asked = Answering(halfplane(), [defence])
    assert [m.name for m in certificates(asked, records, SingleLabel(), Stream(0))] == [
        "certified_accuracy", "certified_accuracy_at_sigma", "average_certified_radius",
    ]  # fmt: skip
    assert certificates(halfplane(), records, SingleLabel(), Stream(0)) == ()


@pytest.mark.parametrize("knobs", [{"sigma": 0}, {"samples": 0}, {"failure": 0.5}, {"certificate_samples": 0}])
def test_what_makes_no_sense_is_refused(knobs):
    with pytest.raises(Refused):
        RandomisedSmoothing(**knobs)


def test_words_are_refused():
    with pytest.raises(Refused, match="randomised-smoothing"):
        RandomisedSmoothing().check_inputs(Inputs(tokens=5))
