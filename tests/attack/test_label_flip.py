"""Label flipping by hand."""

import pytest
import torch

from consilium.attack.poisoning.label_flip import LabelFlip
from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.records import Records


def records(n=90, classes=3):
    y = torch.arange(n) % classes
    return Records.of(torch.rand(n, 2, generator=torch.Generator().manual_seed(0)), y)


def test_every_label_moves_to_the_next():
    clean = records()
    flipped = LabelFlip().records(clean, 3, Stream(0))
    assert torch.equal(flipped.y, (clean.y + 1) % 3)
    assert all(torch.equal(getattr(flipped, k), getattr(clean, k)) for k in ("x", "ids", "units"))
    assert torch.equal(clean.y, torch.arange(90) % 3)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.29, 26), (0.1, 9), (1.0, 90)])
def test_exactly_the_share_is_flipped(share, count):
    clean = records()
    assert (LabelFlip(share=share).records(clean, 3, Stream(0)).y != clean.y).sum() == count


def test_source_and_target():
    clean = records()
    flipped = LabelFlip(source=1, target=0).records(clean, 3, Stream(0))
    assert torch.equal(flipped.y, torch.where(clean.y == 1, 0, clean.y))
    half = LabelFlip(source=1, target=0, share=0.5).records(clean, 3, Stream(0))
    assert (half.y != clean.y).sum() == 15 and (clean.y[half.y != clean.y] == 1).all()
    assert torch.equal(LabelFlip(target=2).records(clean, 3, Stream(0)).y, torch.full((90,), 2))
    assert torch.equal(LabelFlip(source=2).records(clean, 3, Stream(0)).y, torch.where(clean.y == 2, 0, clean.y))


def test_the_stream_decides_which():
    first, second, other = (LabelFlip(share=0.5).records(records(), 3, Stream(s)).y for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.mark.parametrize("knobs", [{"share": 1.1}, {"share": -0.1}, {"sites": -1}, {"source": -1}, {"target": -1},
                                   {"source": 1, "target": 1}])  # fmt: skip
def test_a_knob_out_of_range_is_refused_by_name(knobs):
    with pytest.raises(Refused, match="out of range"):
        LabelFlip(**knobs)


@pytest.mark.parametrize("knob", ["source", "target"])
def test_a_class_that_does_not_exist_is_refused(knob):
    with pytest.raises(Refused, match=f"{knob} = 3 is no class. Use 0 to 2"):
        LabelFlip(**{knob: 3}).records(records(), 3, Stream(0))


def test_a_site_without_the_source_class_is_left_alone():
    clean = records(classes=2)
    assert torch.equal(LabelFlip(source=2).records(clean, 3, Stream(0)).y, clean.y)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"source": 2, "target": 1}, "turns '2' into '10'"),  # the order of text: 1, 10, 2, 3
        ({"source": 3}, "turns '3' into '1'"),
        ({"target": 0}, "turns '10' into '1', '2' into '1', '3' into '1'"),
        ({}, "turns '1' into '10', '10' into '2', '2' into '3', '3' into '1'"),
    ],
)
def test_the_classes_are_named(knobs, said):
    names = ["1", "10", "2", "3"]
    assert LabelFlip(**knobs).describe(names) == said
    y = torch.arange(4)
    flipped = LabelFlip(**knobs).records(Records.of(torch.rand(4, 2), y), 4, Stream(0)).y
    moved = [f"{names[a]!r} into {names[b]!r}" for a, b in zip(y.tolist(), flipped.tolist(), strict=True) if a != b]
    assert "turns " + ", ".join(moved) == said, "what it says is what it does"


def test_of_many_classes_the_first_are_named():
    assert LabelFlip().describe([str(k) for k in range(10)]).endswith("'3' into '4' and 6 more classes likewise")
