"""Layers and weights that torch does not see are refused by the name of what holds them; registered ones are lawful."""

import re

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped
from consilium.study.build.probe import probed

CLASSES = 10


def built(make):
    with scoped(Stream(5)):
        return make()


def probe(make, trained=True):
    return probed(built(make), (1, 8, 8), CLASSES, trained=trained, again=lambda: built(make))


class Keeping(nn.Module):
    """Layers and weights that ``keep`` puts where torch does not look; forward reaches them all."""

    def __init__(self, keep, use=lambda m, x: x):
        super().__init__()
        self.out, self.use = nn.Linear(64, CLASSES), use
        keep(self)

    def forward(self, x):
        return self.out(self.use(self, x.flatten(1)))


def hidden(self):
    self.__dict__["hidden"] = nn.Linear(64, 64)


UNREGISTERED = {
    "a list": (
        lambda m: setattr(m, "blocks", [nn.Linear(64, 64), nn.Linear(64, 64)]),
        r"layers \(Linear\) in self\.blocks \(a list\) are not registered: neither trained nor stored",
        r"use nn\.ModuleList",
    ),
    "a tuple in a dict": (
        lambda m: setattr(m, "parts", {"deep": (nn.ReLU(), [nn.Conv2d(1, 1, 1)])}),
        r"layers \(Conv2d\) in self\.parts \(a dict\)",
        r"use nn\.ModuleDict",
    ),
    "a sublayer's list": (
        lambda m: setattr(m.out, "more", [nn.BatchNorm1d(3, affine=False)]),
        r"self\.out\.more",
        "List",
    ),
    "parameters in a list": (
        lambda m: setattr(m, "scales", [nn.Parameter(torch.ones(64))]),
        r"parameters in self\.scales \(a list\) are not registered",
        r"use nn\.ParameterList",
    ),
    "a tensor with a gradient": (
        lambda m: setattr(m, "scale", torch.ones(64, requires_grad=True)),
        r"tensor self\.scale is not registered",
        r"use nn\.Parameter$",
    ),
    "past torch": (hidden, r"layer self\.hidden is not registered", "assign it as an attribute"),
}


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("name", UNREGISTERED)
def test_layers_that_torch_does_not_see_are_refused_by_name(name, trained):
    keep, reason, remedy = UNREGISTERED[name]
    with pytest.raises(Refused, match=reason) as refused:
        probe(lambda: Keeping(keep), trained)
    assert re.search(remedy, refused.value.remedy) and refused.value.where == "model"


def lawful_keeping(self):
    self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
    self.order = [self.body[0], nn.ReLU(), {"weight": self.body[0].weight}]
    self.table, self.sizes, self.loop = torch.ones(64), [64, 64], []
    self.loop.append(self.loop)


def test_registered_layers_and_constants_in_lists_are_lawful():
    probe(lambda: Keeping(lawful_keeping, lambda m, x: m.order[1](m.order[0](x)) * m.table))
