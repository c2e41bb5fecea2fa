"""A record's answer is its own: what is told of a batch that changes it, and that rounding is not told."""

import pytest
import torch
from torch import nn

from consilium.core import catalogue
from consilium.core.inputs import random_inputs
from consilium.core.random import Stream, scoped
from consilium.learn.alike import FEW_SIZES, SIZES, departure
from consilium.learn.models._text import TextArchitecture

IMAGE = (1, 28, 28)
SHAPES = {"logistic": (30,), "mlp": (30,)}
KNOBS = {"resnet9": {"width": 8, "groups": 4}}
ADAPTERS = ("module", "file", "stored-module")
HOUSE = [card for card in catalogue.cards("learn/models") if card.kind not in ADAPTERS]


class Planted(nn.Module):
    """A linear layer whose kernel is wrong from ``first`` records on, for the records from there on, by ``off``."""

    def __init__(self, first, off):
        super().__init__()
        self.layer, self.first, self.off = nn.Linear(6, 3), first, off

    def forward(self, x):
        answers = self.layer(x)
        return torch.cat([answers[: self.first], answers[self.first :] + torch.tensor([self.off, 0, 0])])


def made(build):
    with scoped(Stream(3)):
        return build().eval().requires_grad_(False)


def inputs(n, *shape):
    return torch.rand(n, *shape, generator=Stream(4).generator())


@pytest.mark.parametrize(("first", "size"), [(1, 2), (2, 3), (64, 65), (100, 256), (256, 257), (300, 512)])
@pytest.mark.parametrize("n", [5, 90, 700])
def test_a_kernel_that_is_wrong_from_a_record_on_is_found_at_the_first_size_that_reaches_it(first, size, n):
    found = departure(made(lambda: Planted(first, 0.3)), inputs(n, 6))
    assert found is not None and found.batch == size and 0 <= found.record < n
    assert found.share > 1e-2
    assert f"in batches of {size} record {found.record} is answered otherwise than alone" in str(found)


def test_the_share_is_of_the_logits_spread():
    module, x = made(lambda: Planted(1, 0.3)), inputs(50, 6)
    alone = torch.cat([module(record[None]) for record in x])
    spread = float((alone.amax(1) - alone.amin(1)).median())
    assert departure(module, x).share == pytest.approx(0.3 / spread, rel=1e-4)
    assert departure(module, x, tolerance=0.4 / spread) is None
    assert departure(module, x, tolerance=0.2 / spread) is not None


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_in_a_batch_alone_is_found(wrong):
    assert departure(made(lambda: Planted(8, wrong)), inputs(20, 6)).batch == 64
    always = nn.Sequential(made(lambda: nn.Linear(6, 3)), nn.Threshold(1e9, float("nan")))
    assert departure(always, inputs(20, 6)) is None


@pytest.mark.parametrize("card", HOUSE, ids=lambda card: card.kind)
def test_every_model_of_the_house_answers_alike(card):
    architecture = catalogue.load_entry(card)(**KNOBS.get(card.kind, {}))
    tokens, shape = (50, (12,)) if isinstance(architecture, TextArchitecture) else (0, SHAPES.get(card.kind, IMAGE))
    module = made(lambda: architecture.build_for(tokens, shape, 10))
    for p in module.parameters():
        p.add_(0.05 * torch.randn(p.shape, generator=Stream(p.numel()).generator()))
    x = random_inputs(3, shape, tokens, Stream(4).generator())
    assert departure(module, x, sizes=FEW_SIZES) is None
    assert set(FEW_SIZES) < set(SIZES)


class Mixing(nn.Module):
    """Two layers; the batch is looked at where ``place`` says."""

    def __init__(self, place):
        super().__init__()
        self.body, self.head, self.place = (
            nn.Sequential(nn.Linear(6, 6), Centred(place == "in")),
            nn.Linear(6, 3),
            place,
        )

    def forward(self, x):
        h = self.body(x)
        return self.head(h - h.mean(0) if self.place == "between" else h)


class Centred(nn.Module):
    def __init__(self, on):
        super().__init__()
        self.on = on

    def forward(self, x):
        return x - x.mean(0) if self.on else x


@pytest.mark.parametrize(
    "place, told", [("in", "at layer body.1 (Centred)"), ("between", "before layer head (Linear)")]
)
def test_the_layer_where_answers_part_is_named(place, told):
    found = departure(made(lambda: Mixing(place)), inputs(20, 6))
    assert str(found).endswith(f"of the spread of its logits, first {told}")


def test_no_layer_is_named_where_the_answers_part_after_the_last():
    assert departure(made(lambda: Planted(1, 0.3)), inputs(5, 6)).layer == ""
