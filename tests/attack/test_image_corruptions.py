"""Common corruptions: each by its closed form, the same for the same record, and the figures by hand."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.attack.shift.image_corruptions import ImageCorruptions
from consilium.core.errors import Refused
from consilium.core.inputs import Inputs
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.pictures.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from consilium.learn.tasks.single_label import SingleLabel

SEEDS = torch.arange(4)
ALL = [name for name in CORRUPTIONS if name != "jpeg"]


def at(name, x, severity=3):
    return corrupted(name, x, severity, SEEDS[: len(x)])


@pytest.fixture
def pictures():
    """Smooth ones: what blur and blocks do to noise says nothing."""
    coarse = torch.rand(4, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, size=(28, 28), mode="bilinear")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 20), (2, 2, 2)])
def test_pictures_of_any_size_stay_pictures(name, shape):
    x = torch.rand(3, *shape)
    for severity in SEVERITIES:
        out = at(name, x, severity)
        assert out.shape == x.shape and out.dtype == x.dtype and out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize("name", ALL)
def test_a_higher_severity_is_farther_from_the_picture(name, pictures):
    sizes = [(at(name, pictures, severity) - pictures).square().mean().item() for severity in SEVERITIES]
    assert 0 < sizes[0] < sizes[2] < sizes[4]
    assert sizes == sorted(sizes) or name == "pixelate"  # 26 blocks of 28 pixels fall as they may


@pytest.mark.parametrize("name", ALL)
def test_a_record_alone_is_changed_as_among_others(name, pictures):
    alone = corrupted(name, pictures[2:3], 4, SEEDS[2:3])
    assert torch.allclose(at(name, pictures, 4)[2:3], alone, atol=1e-6)


def test_noise_has_its_moments():
    flat = torch.full((4, 1, 100, 100), 0.5)
    for severity, deviation in ((1, 0.04), (5, 0.10)):
        out = at("gaussian_noise", flat, severity)
        assert out.std().item() == pytest.approx(deviation, rel=0.03) and out.mean().item() == pytest.approx(
            0.5, abs=0.01
        )
    shot = at("shot_noise", flat, 5)  # Poisson(25) / 50: variance 25 / 2500
    assert shot.mean().item() == pytest.approx(0.5, abs=0.01) and shot.var().item() == pytest.approx(0.01, rel=0.05)
    impulse = at("impulse_noise", flat, 5)
    assert (impulse != 0.5).double().mean().item() == pytest.approx(0.07, abs=0.01)
    assert set(impulse.unique().tolist()) == {0.0, 0.5, 1.0}


def test_blur_spreads_a_point_and_keeps_its_sum():
    point = torch.zeros(1, 1, 29, 29)
    point[0, 0, 14, 14] = 1
    for name in ("defocus", "motion"):
        out = at(name, point, 5)
        assert out.sum().item() == pytest.approx(1, abs=1e-4) and out.max() < 0.2
    assert (at("motion", point, 5)[0, 0].sum(1) > 0).sum() == 1  # along one line
    disk = at("defocus", point, 5)[0, 0]
    assert torch.allclose(disk, disk.T) and torch.allclose(disk, disk.flip(0))


def test_light_by_hand():
    x = torch.tensor([0.1, 0.4, 0.7, 0.9]).view(1, 1, 2, 2)
    assert torch.allclose(at("brightness", x, 5).flatten(), torch.tensor([0.4, 0.7, 1.0, 1.0]))
    assert torch.allclose(at("contrast", x, 2).flatten(), 0.525 + 0.5 * (x.flatten() - 0.525))
    assert torch.allclose(at("gamma", x, 5), x.square())


def test_pixels_become_blocks():
    x = torch.arange(16.0).view(1, 1, 4, 4) / 16
    out = at("pixelate", x, 5)  # 4 x .65: two by two blocks
    assert torch.allclose(out[0, 0, :2, :2], x[0, 0, :2, :2].mean()) and len(out.unique()) == 4


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_jpeg_keeps_flat_pictures_and_loses_detail(channels, pictures):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    flat = torch.full((2, channels, 16, 16), 128 / 255)
    assert torch.allclose(at("jpeg", flat, 5), flat, atol=2 / 255)
    fine = pictures.expand(-1, channels, -1, -1)
    sizes = [(at("jpeg", fine, severity) - fine).abs().mean() for severity in (1, 5)]
    assert 0 < sizes[0] < sizes[1] < 0.3


class Bright(nn.Module):
    """Class 1 where the mean is above one half."""

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        return torch.stack([torch.zeros_like(mean), mean - 0.5], 1)


def bright_view():
    x = torch.tensor([0.1, 0.42, 0.28, 0.9]).view(4, 1, 1, 1).expand(4, 1, 6, 6).contiguous()
    return ModelView(2, Bright(), None, Records.of(x, torch.tensor([0, 0, 0, 1])), task=SingleLabel())


def run(attack, view, seed=0):
    return attack(view, {}, torch.Generator().manual_seed(seed))


def test_the_figures_by_hand():
    """Brightness of .05 to .3 turns the second picture from .1 on, the third never (.58 > .5 at .3)."""
    finding = run(ImageCorruptions(only=("brightness", "contrast")), bright_view())
    assert finding.scores["right"].tolist() == pytest.approx([1, 0.6, 0.9, 1])
    assert finding["accuracy_brightness"].value == pytest.approx((1 + 0.2 + 0.8 + 1) / 4)
    assert finding["accuracy_contrast"].value == 1 and finding["corrupted_accuracy"].value == pytest.approx(0.875)
    assert finding["accuracy_severity_5"].value == pytest.approx((1 + 0.5 + 0.5 + 1) / 4)
    assert all(m.n == 4 and m.low <= m.value <= m.high for m in finding.measures)


def test_it_depends_on_ids_alone(view):
    attack = ImageCorruptions(only=("gaussian_noise",))
    assert torch.equal(run(attack, view, 0).scores["right"], run(attack, view, 1).scores["right"])
    order = torch.randperm(len(view.targets), generator=torch.Generator().manual_seed(0))
    shuffled = run(attack, replace(view, targets=view.targets.select(order)))
    assert torch.equal(shuffled.scores["right"], run(attack, view).scores["right"][order])


def test_what_is_no_picture_is_refused():
    with pytest.raises(Refused, match="no meaning for inputs of shape"):
        ImageCorruptions().check_fit((30,), 2)
    with pytest.raises(Refused, match="tokens"):
        ImageCorruptions().check_inputs(Inputs(tokens=9))
    with pytest.raises(Refused, match="'fog' is no corruption"):
        ImageCorruptions(only=("fog",))
