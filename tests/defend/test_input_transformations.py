"""What answer defences do to an input before the model sees it, and that attacks see through it."""

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter
from torch import nn

from consilium.attack.evasion.pgd import PGD
from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.defend.answer.bit_depth import BitDepth
from consilium.defend.answer.jpeg import JPEG
from consilium.defend.answer.median_smoothing import MedianSmoothing
from consilium.learn.tasks.single_label import SingleLabel
from consilium.study.evaluate.release import Answering

IMAGES = torch.rand(5, 3, 10, 12, generator=torch.Generator().manual_seed(0))
DEFENCES = [BitDepth(bits=3), MedianSmoothing(window=3), JPEG(quality=80)]
KINDS = [defence.kind() for defence in DEFENCES]


class Seen(nn.Module):
    """Answers what it is shown, so that a test can look at it."""

    def forward(self, x):
        return x.flatten(1)


def test_one_bit_is_black_and_white_and_eight_bits_are_bytes():
    assert BitDepth(bits=1).around(Seen())(IMAGES).unique().tolist() == [0, 1]
    eight = BitDepth(bits=8).around(Seen())(IMAGES) * 255
    assert torch.allclose(eight, eight.round(), atol=1e-4)
    assert float((eight / 255 - IMAGES.flatten(1)).abs().max()) <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("window", [3, 5])
def test_the_median_is_that_of_scipy(window):
    seen = MedianSmoothing(window=window).around(Seen())(IMAGES).view_as(IMAGES)
    expected = [[median_filter(channel, size=window, mode="mirror") for channel in image] for image in IMAGES.numpy()]
    assert np.array_equal(seen.numpy(), np.array(expected))


def test_jpeg_of_high_quality_changes_little_and_of_low_quality_much():
    smooth = torch.linspace(0, 1, 64).view(1, 1, 8, 8).expand(2, 3, 8, 8)
    near, far = (JPEG(quality=q).squeezed(smooth) for q in (95, 1))
    assert near.shape == smooth.shape and near.dtype == smooth.dtype
    assert float((near - smooth).abs().max()) < 0.03 < float((far - smooth).abs().max())
    assert torch.equal(JPEG(quality=95).squeezed(smooth[:, :1])[0], JPEG(quality=95).squeezed(smooth[:1, :1])[0])


@pytest.mark.parametrize("defence", DEFENCES, ids=KINDS)
def test_a_record_is_seen_alike_in_any_company_and_at_any_time(defence):
    asked = Answering(Seen(), [defence])
    together = asked(IMAGES)
    assert torch.equal(asked(IMAGES), together)
    assert torch.equal(torch.cat([asked(image[None]) for image in IMAGES]), together)


@pytest.mark.parametrize("defence", DEFENCES, ids=KINDS)
def test_the_surrogate_answers_the_same_and_has_a_gradient(defence):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(360, 4)).requires_grad_(False)
    x = IMAGES.clone().requires_grad_()
    logits = defence.surrogate(model)(x)
    assert torch.allclose(logits, defence.around(model)(IMAGES), atol=1e-6)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert float(gradient.abs().sum()) > 0
    assert defence.surrogate(None) is None


def test_rounding_is_no_robustness_against_who_follows_it_straight_through():
    model = nn.Linear(2, 2, bias=False).requires_grad_(False)
    model.weight.copy_(torch.eye(2))
    records = Records.of(torch.tensor([[0.60, 0.40], [0.41, 0.59]]), torch.tensor([0, 1]))
    defence, view = BitDepth(bits=3), lambda s: ModelView(2, asked, s, records, task=SingleLabel())
    asked = Answering(model, [defence])
    masked = PGD(radius=0.2, steps=10)(view(defence.surrogate(model)), {}, Stream(0).generator())
    assert masked["robust_accuracy"].value == 0
    loose = PGD(radius=0.2, steps=10)(view(None), {}, Stream(0).generator())
    assert loose["robust_accuracy"].value is None and "not adaptively evaluated" in loose.notes[0]


def test_defences_stand_in_the_order_of_the_study():
    one, other = Answering(Seen(), [BitDepth(bits=1), JPEG(quality=5)]), JPEG(quality=5).squeezed(IMAGES)
    assert torch.allclose(one(IMAGES).exp(), BitDepth(bits=1).squeezed(other).flatten(1).softmax(1), atol=1e-4)


@pytest.mark.parametrize(
    "refused",
    [
        lambda: BitDepth(bits=0),
        lambda: BitDepth(bits=9),
        lambda: MedianSmoothing(window=4),
        lambda: JPEG(quality=0),
        lambda: MedianSmoothing(window=9).check_fit((1, 4, 4), 2),
        lambda: MedianSmoothing().check_fit((30,), 2),
        lambda: JPEG().check_fit((2, 8, 8), 2),
        lambda: BitDepth().check_inputs(Inputs(tokens=9)),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(refused):
    with pytest.raises(Refused) as error:
        refused()
    assert error.value.remedy
