"""Weights that belong to no layer of torch: stored and counted with an int8 model, or refused by name."""

import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional as F

from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.defend.model import _fx
from consilium.defend.model.static_int8 import StaticInt8
from consilium.learn.models.resnet9 import ResNet9
from consilium.learn.standardised import StandardisedConv2d
from consilium.learn.tasks.single_label import SingleLabel

SHAPE = (1, 16, 16)


class Weightless(nn.Module):
    """Weights that belong to no layer: handed to a function, as they are or normalised in forward."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.first = kind, nn.Conv2d(1, 8, 3, padding=1)
        self.last = nn.Parameter(torch.randn(3, 8))
        if kind == "convolution":
            self.middle = nn.Parameter(torch.randn(8, 8, 1, 1))

    def forward(self, x):
        h = self.first(x).relu()
        if self.kind == "convolution":
            h = F.conv2d(h, self.middle - self.middle.mean(), self.last[0]).relu()
        h = F.adaptive_avg_pool2d(h, 1).flatten(1)
        return F.linear(F.normalize(h), F.normalize(self.last) if self.kind == "cosine" else self.last)


MODELS = {
    "linear": lambda: Weightless("linear"),
    "cosine": lambda: Weightless("cosine"),
    "convolution": lambda: Weightless("convolution"),
    "standardised": lambda: ResNet9(width=8, weight_standardisation=True).build(SHAPE, 3),
}


def public(n=32):
    g = Stream(1).generator()
    return Records.of(torch.rand(n, *SHAPE, generator=g), torch.randint(3, (n,), generator=g))


def built(name, seed=0):
    with scoped(Stream(seed)):
        return MODELS[name]().eval().requires_grad_(False)


def defended(module):
    return StaticInt8().apply(module, public(), Stream(0), SingleLabel())


@pytest.mark.parametrize("name", MODELS)
def test_stored_and_rebuilt_they_answer_the_same_bits(name):
    quantised, x = defended(built(name)), public().x
    stored = load(save(StaticInt8().pack(quantised)))
    again = StaticInt8().unpack(StaticInt8().structure(built(name, seed=9), x[:1]), stored)
    assert torch.equal(again(x), quantised(x))


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_is_counted(name):
    module = built(name)
    weights = sum(parameter.numel() for parameter in module.parameters())
    packed = StaticInt8().pack(defended(module))
    assert sum(tensor.numel() for tensor in packed.values()) >= weights


def test_standardised_convolutions_are_as_small_as_ordinary_ones():
    sizes = [
        len(save(StaticInt8().pack(defended(ResNet9(width=8, weight_standardisation=standard).build(SHAPE, 3).eval()))))
        for standard in (True, False)
    ]
    assert sizes[0] == sizes[1]


def test_a_plain_convolution_answers_what_the_standardised_one_does():
    layer = StandardisedConv2d(3, 5, 3, padding=1)
    x, before = torch.rand(4, 3, 8, 8), layer.weight.clone()
    plain = layer.plain()
    assert type(plain) is nn.Conv2d and torch.equal(plain(x), layer(x)) and torch.equal(layer.weight, before)
    assert not torch.equal(plain.weight, before)


def test_weights_that_would_not_be_stored_are_refused(monkeypatch):
    floats = tuple(f for f in _fx._FLOAT_FUNCTIONS if f is not F.linear)
    monkeypatch.setattr(_fx, "_FLOAT_FUNCTIONS", floats)  # a function that torch packs and nobody has listed
    with pytest.raises(Refused, match=r"the weights of quantized\.linear belong to no layer, and would not be stored"):
        defended(built("linear"))
