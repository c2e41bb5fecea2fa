"""The scattering transform against Kymatio, and against what it is for: shifts, turns, energy, one record at a time."""

import math

import pytest
import torch

from consilium.core.errors import Refused
from consilium.core.front import Front, behind
from consilium.learn import scattering
from consilium.learn.models.scattering import ScatteringModel as Model
from consilium.learn.scattering import Scattering, gaussian_filter, morlet

KYMATIO = {
    (0, 0, 0): 0.493099,
    (0, 3, 5): 0.535423,
    (1, 2, 2): 0.049796,
    (4, 6, 0): 0.040615,
    (8, 3, 3): 0.042343,
    (9, 1, 4): 0.027267,
    (12, 5, 5): 0.081442,
    (16, 0, 6): 0.056900,
    (17, 3, 3): 0.003686,
    (18, 2, 5): 0.005614,
    (33, 4, 1): 0.004820,
    (50, 6, 6): 0.004311,
    (67, 3, 2): 0.001778,
    (80, 1, 1): 0.004883,
}
"""Coefficients of ``pattern`` by (path, row, column), from kymatio 0.3.0 (ScatteringTorch2D, J = 2, L = 8), which does
not import whole beside scipy 1.17 and is therefore no dependency of the tests."""
ENERGY = 13.686990


def pattern():
    i, j = torch.arange(28.0)[:, None], torch.arange(28.0)
    return ((i * 7 + j * 13 + i * j) % 31 / 30)[None, None]


def distance_to_kymatio():
    found = Scattering((28, 28))(pattern())[0]
    return max(abs(float(found[place]) - value) / value for place, value in KYMATIO.items())


def test_it_is_kymatio_s():
    found = Scattering((28, 28))(pattern())
    assert found.shape == (1, 81, 7, 7)
    assert distance_to_kymatio() < 1e-3
    assert float(found.square().sum()) == pytest.approx(ENERGY, rel=1e-3)


@pytest.mark.parametrize("broken", ["morlet", "low_frequencies", "F.pad"])
def test_that_test_can_fail(broken, monkeypatch):
    """A rounder wavelet; filters cut from the wrong end; a margin of zeros."""
    scattering._bank.cache_clear()
    right = {"morlet": scattering.morlet, "low_frequencies": scattering.low_frequencies, "F.pad": scattering.F.pad}
    wrong = {
        "morlet": lambda size, j, angle, slant: right["morlet"](size, j, angle, 1.5 * slant),
        "low_frequencies": lambda f, level: right["low_frequencies"](f.roll(3, 0) if level else f, level),
        "F.pad": lambda x, margins, mode: right["F.pad"](x, margins),
    }
    monkeypatch.setattr(f"consilium.learn.scattering.{broken}", wrong[broken])
    assert distance_to_kymatio() > 1e-2
    scattering._bank.cache_clear()


@pytest.mark.parametrize(("scale", "shape"), [(1, (8, 8)), (2, (8, 12)), (3, (32, 40))])
def test_paths_and_places(scale, shape):
    made = Scattering(shape, scale, 4)
    out = made(torch.rand(3, 2, *shape))
    assert made.paths == 1 + 4 * scale + 16 * scale * (scale - 1) // 2
    assert out.shape == (3, 2 * made.paths, shape[0] >> scale, shape[1] >> scale)


def test_a_constant_image_has_its_value_and_no_waves():
    out = Scattering((28, 28))(torch.full((1, 1, 28, 28), 0.7))[0]
    torch.testing.assert_close(out[0], torch.full((7, 7), 0.7), rtol=1e-4, atol=0)
    assert float(out[1:].abs().max()) < 1e-6


def spot(down=0, across=0):
    x = torch.zeros(1, 1, 28, 28)
    x[..., 10 + down : 18 + down, 10 + across : 18 + across] = pattern()[..., :8, :8]
    return x


def test_a_shift_by_four_pixels_moves_it_by_one_place():
    made = Scattering((28, 28))
    here, there = made(spot())[0, :, 1:6, 1:5], made(spot(across=4))[0, :, 1:6, 2:6]
    assert float((here - there).norm() / here.norm()) < 0.02
    assert float((here - made(spot(across=3))[0, :, 1:6, 2:6]).norm() / here.norm()) > 0.1


def test_a_small_shift_changes_it_less_than_the_image():
    made = Scattering((28, 28))

    def changed(a, b):
        return float((a - b).norm() / a.norm())

    assert changed(made(spot()), made(spot(across=1))) < 0.5 * changed(spot(), spot(across=1))


def test_mirrored_at_the_diagonal_the_angles_are_mirrored_too():
    """An angle a becomes pi / 2 - a, hence wave t wave 2 - t; a wave and its opposite have the same modulus."""
    made = Scattering((28, 28))
    upright, mirrored = (made(x)[0, 1:9] for x in (pattern(), pattern().mT))
    places = [(2 - t) % 8 for t in range(8)]
    torch.testing.assert_close(mirrored[places], upright.mT, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(mirrored, upright.mT, rtol=1e-3, atol=1e-3)


def test_the_filters_lose_little_energy_and_add_none():
    """Littlewood-Paley: |phi^|^2 + (1/2) sum (|psi^(w)|^2 + |psi^(-w)|^2) is about 1 at most."""
    low = torch.outer(gaussian_filter(36, 1.6), gaussian_filter(36, 1.6)).square()
    waves = [morlet((36, 36), j, math.pi * (3 - t) / 8, 0.5).square() for j in range(2) for t in range(8)]
    mirrored = [w.flip((0, 1)).roll((1, 1), (0, 1)) for w in waves]
    total = low + sum(a + b for a, b in zip(waves, mirrored, strict=True)) / 2
    assert 0.99 < float(total.max()) < 1.2
    assert all(abs(float(w[0, 0])) < 1e-12 for w in waves)


def test_every_image_is_transformed_alone_and_gradients_are_finite():
    made = Scattering((28, 28))
    x = torch.cat([torch.rand(10, 1, 28, 28), torch.zeros(1, 1, 28, 28)]).requires_grad_()
    out = made(x)
    torch.testing.assert_close(out[3:4], made(x[3:4]))
    (found,) = torch.autograd.grad(out.sum(), x)
    assert bool(found.isfinite().all())
    assert float(found[:10].abs().amax((1, 2, 3)).min()) > 0
    assert made(x[:0]).shape == (0, 81, 7, 7)


def test_the_model_opens_with_a_front_that_holds_nothing():
    module = Model().build((1, 28, 28), 10)
    front, rest = behind(module)
    assert isinstance(front, Front)
    assert not list(front.parameters())
    assert not list(front.buffers())
    assert sum(p.numel() for p in module.parameters()) == 3969 * 10 + 10
    x = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(rest(front(x)), module(x))
    groups = front(x).unflatten(1, (27, 3)).flatten(2)
    torch.testing.assert_close(groups.mean(2), torch.zeros(2, 27), rtol=0, atol=1e-4)


def test_a_front_with_tensors_is_refused():
    class Learned(Front):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(3))

    with pytest.raises(Refused, match="mean"):
        behind(torch.nn.Sequential(Learned(), torch.nn.Linear(3, 2)))
    assert behind(torch.nn.Sequential(torch.nn.Linear(3, 2))) is None
    assert behind(torch.nn.Linear(3, 2)) is None


@pytest.mark.parametrize("knobs", [{"scale": 0}, {"angles": 3}, {"groups": -1}])
def test_knobs_out_of_range_are_refused(knobs):
    with pytest.raises(Refused):
        Model(**knobs)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(Refused, match="too small"):
        Model(scale=4).build((1, 12, 12), 2)
