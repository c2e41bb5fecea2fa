"""Patch and light spots: areas by hand, planted weaknesses, and what a camera does."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.attack.evasion.adversarial_patch import AdversarialPatch
from consilium.attack.evasion.light_spots import LightSpots
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.pictures.camera import Camera, Shots, lit
from consilium.learn.tasks.single_label import SingleLabel

STRAIGHT = Camera(rotation=0, scale=0, brightness=0, blur=0)


def run(attack, view, seed=0):
    return attack(view, {}, torch.Generator().manual_seed(seed))


def shots(**changes):
    plain = {"angle": 0.0, "scale": 1.0, "brightness": 1.0, "blur": 0.0, "place": (0.0, 0.0)}
    return Shots(**{key: torch.tensor([value]) for key, value in {**plain, **changes}.items()})


class Brightest(nn.Module):
    """Class 1 where some pixel is above .9."""

    def forward(self, x):
        peak = x.flatten(1).amax(1)
        return torch.stack([torch.zeros_like(peak), 50 * (peak - 0.9)], 1)


def dark_view(module=None):
    x = 0.3 * torch.rand(30, 1, 10, 12, generator=torch.Generator().manual_seed(0))
    records = Records.of(x, torch.zeros(30).long())
    module = module or Brightest()
    return ModelView(2, module, module, records.select(torch.arange(20)), task=SingleLabel(),
                     public=records.select(torch.arange(20, 30)))  # fmt: skip


def test_a_straight_patch_covers_its_square_and_nothing_else():
    x, patch = torch.zeros(1, 2, 8, 10), torch.rand(2, 3, 3)
    out = STRAIGHT.pasted(x, patch, 3, shots(place=(1.0, 0.5)))
    assert torch.allclose(out[0, :, 5:8, 4:7], patch, atol=1e-5) and (out > 1e-5).any(1).sum() <= 9


def test_a_quarter_turn_is_a_quarter_turn():
    x, patch = torch.zeros(1, 1, 6, 6), torch.rand(1, 4, 4)
    out = STRAIGHT.pasted(x, patch, 4, shots(angle=torch.pi / 2))[0, :, :4, :4]
    either = [torch.rot90(patch, turn, (1, 2)) for turn in (1, -1)]
    assert any(torch.allclose(out, one, atol=1e-4) for one in either)


def test_brightness_and_blur_by_hand():
    x, patch = torch.zeros(1, 1, 5, 5), torch.zeros(1, 3, 3)
    patch[0, 1, 1] = 0.9
    out = STRAIGHT.pasted(x, patch, 3, shots(blur=1.0, brightness=0.5))
    assert torch.allclose(out[0, 0, :3, :3], torch.full((3, 3), 0.05), atol=1e-5)


def test_a_patch_that_is_scaled_covers_the_square_of_the_scale():
    x, patch = torch.zeros(1, 1, 40, 40), torch.ones(1, 20, 20)
    out = STRAIGHT.pasted(x, patch, 20, shots(scale=0.5, place=(0.5, 0.5)))
    assert out.sum() == pytest.approx(100, rel=0.05)


def test_a_patch_finds_a_planted_weakness_and_one_that_is_not_there():
    """One bright pixel anywhere is enough; a model that looks at no pixel stands."""
    finding = run(AdversarialPatch(steps=30), dark_view())
    assert finding["robust_accuracy"].value == 0
    bound = AdversarialPatch(steps=30, radius=0.3)
    assert run(bound, dark_view())["robust_accuracy"].value == 1


def test_a_fitted_patch_is_stronger_than_grey(view, digits):
    shown = replace(view, public=digits[0].select(torch.arange(200)))
    fitted = AdversarialPatch(size=0.4, steps=60, tries=2)
    grey = replace(fitted, steps=1, step_size=1e-6)
    values = [run(attack, shown)["robust_accuracy"].value for attack in (grey, fitted)]
    assert values[1] < values[0] - 0.05


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"size": 1.0}, "larger than it"),
        ({"size": 0.95}, "larger than it"),
        ({"tries": 0}, "out of range"),
        ({"radius": 1.5}, "out of range"),
    ],
)
def test_a_patch_out_of_range_is_refused(knobs, said):
    with pytest.raises(Refused, match=said):
        AdversarialPatch(**knobs)


def test_a_patch_of_too_many_pixels_is_refused():
    with pytest.raises(Refused, match="9 pixels is larger than pictures of 8 x 8"):
        STRAIGHT.pasted(torch.zeros(1, 1, 8, 8), torch.zeros(1, 9, 9), 9, shots())


@pytest.mark.parametrize("attack", [AdversarialPatch(), LightSpots()], ids=lambda a: a.kind())
def test_a_table_has_no_place_for_it(attack):
    with pytest.raises(Refused, match="no meaning for inputs of shape"):
        attack.check_fit((30,), 2)


def test_a_spot_by_hand():
    """At its centre the brightness; one radius away exp(-1/2) of it; never above 1."""
    x = torch.full((1, 1, 21, 21), 0.2)
    spot = torch.tensor([[[10.5 / 21, 10.5 / 21, 3 / 21, 0.4]]])
    out = lit(x, spot)[0, 0]
    assert out[10, 10] == pytest.approx(0.6, abs=1e-5)
    assert out[10, 13] == pytest.approx(0.2 + 0.4 * 0.60653, abs=1e-4) and out[0, 0] == pytest.approx(0.2, abs=1e-2)
    assert lit(x, spot * torch.tensor([1, 1, 1, 9.0])).max() == 1


def test_spots_find_a_planted_weakness_within_their_brightness():
    assert run(LightSpots(radius=0.95, queries=200), dark_view())["robust_accuracy"].value == 0
    assert run(LightSpots(radius=0.5, queries=200), dark_view())["robust_accuracy"].value == 1


@pytest.mark.parametrize("queries", [2, 15])
def test_spots_keep_their_budget_of_queries(queries):
    class Counting(nn.Module):
        asked = 0

        def forward(self, x):
            Counting.asked += len(x)
            return torch.stack([torch.ones(len(x)), torch.zeros(len(x))], 1)

    view = dark_view(Counting())
    LightSpots(queries=queries).craft(view, view.targets.x, view.targets.y, torch.Generator())
    assert Counting.asked == 20 * (queries + 1)  # the judge looks once more


def test_more_spots_and_queries_find_more(view):
    few = run(LightSpots(radius=0.6, queries=3, spots=1), view)["robust_accuracy"].value
    many = run(LightSpots(radius=0.6, queries=80), view)["robust_accuracy"].value
    assert many < few - 0.1


@pytest.mark.parametrize("knobs", [{"queries": 0}, {"spots": 0}, {"spot_radius": 0.0}, {"jitter": 0.5}])
def test_spots_out_of_range_are_refused(knobs):
    with pytest.raises(Refused, match="out of range"):
        LightSpots(**knobs)
