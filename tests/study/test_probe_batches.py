"""Modules that depend on the size of a batch, layers that no gradient reaches, and tensors that are not dense."""

import re

import pytest
import torch
from torch import nn

from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped
from consilium.study.build.probe import probed

SHAPE, CLASSES = (1, 8, 8), 10


class Around(nn.Module):
    """A linear layer and a function of it and x."""

    def __init__(self, forward):
        super().__init__()
        self.layer, self.how = nn.Linear(64, CLASSES), forward

    def forward(self, x):
        return self.how(self, x.flatten(1))


class Backbone(nn.Module):
    """A layer that no gradient reaches, and one that learns."""

    def __init__(self, how):
        super().__init__()
        self.backbone, self.head, self.how = nn.Linear(64, 8), nn.Linear(8, CLASSES), how

    def forward(self, x):
        return self.head(self.how(self.backbone, x.flatten(1)))


class Branches(nn.Module):
    """Each of two layers for some records."""

    def __init__(self):
        super().__init__()
        self.dark, self.bright = nn.Linear(64, CLASSES), nn.Linear(64, CLASSES)

    def forward(self, x):
        x = x.flatten(1)
        return torch.where(x.mean(1, keepdim=True) < 0.3, self.dark(x), self.bright(x))


class Quit(BaseException):
    """Neither an Exception nor a KeyboardInterrupt."""


def ungraded(layer, x):
    with torch.no_grad():
        return layer(x)


def quits(self, x):
    raise Quit("gone")


def late(self, x):
    if len(x) > 90:
        raise SystemExit("late")
    return self.layer(x)


def with_tensor(register, tensor):
    module = Around(lambda m, x: m.layer(x))
    getattr(module, register)("table", tensor)
    return module


def centred(when):
    return lambda m, x: m.layer(x - x.mean(0) if when(m, x) else x)


NEIGHBOURS = "depends on the other examples of its batch, in evaluation too: in batches of "
REFUSED = {
    "mixes above 60": (lambda: Around(centred(lambda m, x: len(x) > 60)), NEIGHBOURS + "64", "of one record alone"),
    "mixes above 500": (lambda: Around(centred(lambda m, x: len(x) > 500)), NEIGHBOURS + "512", "of one record alone"),
    "mixes a rare value": (
        lambda: Around(centred(lambda m, x: bool((x[:, 0] > 0.95).any()))),
        NEIGHBOURS,
        "of one record alone",
    ),
    "exits in large batches": (
        lambda: Around(late),
        r"fails on random inputs: SystemExit: late \(.*test_probe_batches\.py:\d+\)",
        "any batch",
    ),
    "quits": (lambda: Around(quits), r"cannot read .*Quit: gone \(.*test_probe_batches\.py:\d+\)", "choose"),
    "an unused layer": (
        lambda: Backbone(lambda m, x: x[:, :8]),
        r"no gradient reaches backbone\.weight and 1 more: it would never be trained",
        "does not use",
    ),
    "a backbone under no_grad": (
        lambda: Backbone(ungraded),
        r"reaches backbone\.weight and 1 more",
        "requires_grad = False",
    ),
    "a detached backbone": (lambda: Backbone(lambda m, x: m(x).detach()), "no gradient reaches backbone", "detach"),
    "a rounded backbone": (lambda: Backbone(lambda m, x: m(x).round()), "no gradient reaches backbone", "round"),
    "sparse answers": (
        lambda: Around(lambda m, x: m.layer(x).to_sparse()),
        "answers a tensor laid out as sparse_coo, not",
        r"to_dense\(\)",
    ),
    "sparse answers in training": (
        lambda: Around(lambda m, x: m.layer(x).to_sparse() if m.training else m.layer(x)),
        "laid out as sparse_coo, in training mode",
        r"to_dense\(\)",
    ),
    "a sparse parameter": (
        lambda: with_tensor("register_parameter", nn.Parameter(torch.eye(3).to_sparse())),
        "table is laid out as sparse_coo",
        r"to_dense\(\)",
    ),
    "a sparse buffer": (
        lambda: with_tensor("register_buffer", torch.eye(3).to_sparse()),
        "table is laid out as sparse_coo",
        r"to_dense\(\)",
    ),
    "answers on another device": (lambda: Around(lambda m, x: m.layer(x).to("meta")), "fails on random", "any batch"),
}
ACCEPTED = {
    "a layer for dark records": Branches,
    "a path left out by a coin": lambda: Around(lambda m, x: m.layer(x * (torch.rand(1) > 0.5) if m.training else x)),
    "a large batch is no other": lambda: Around(lambda m, x: torch.cat([m.layer(part) for part in x.split(50)])),
}


def probe(make):
    def built():
        with scoped(Stream(5)):
            return make()

    return probed(built(), SHAPE, CLASSES, trained=True, again=built)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_what_it_does(name):
    make, reason, remedy = REFUSED[name]
    with pytest.raises(Refused, match=reason) as refused:
        probe(make)
    assert refused.value.where == "model"
    assert re.search(remedy, refused.value.remedy), refused.value.remedy


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_of_one_record_alone_is_accepted(name):
    probe(ACCEPTED[name])


def test_a_keyboard_interrupt_in_forward_is_nobodys_fault():
    def stops(self, x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe(lambda: Around(stops))
