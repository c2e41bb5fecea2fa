"""What a user's module does is found at the plan, for every arm, and told by what it does and what to do."""

import random
import re
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import consilium
from consilium import Study
from consilium.core import catalogue
from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped
from consilium.learn.models._text import TextArchitecture
from consilium.learn.tasks.masks import Masks
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.regression import Regression
from consilium.study.build.probe import probed

SHAPE, CLASSES = (1, 8, 8), 10


def flat(out=CLASSES):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, out))


def convolutional(*layers):
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *layers, nn.Flatten(), nn.Linear(512, CLASSES))


class Around(nn.Module):
    """A linear layer and a function of it and x, with a place for state."""

    def __init__(self, forward):
        super().__init__()
        self.layer, self.how, self.calls = nn.Linear(64, CLASSES), forward, 0
        self.register_buffer("seen", torch.zeros(64))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        return self.how(self, x.flatten(1))


def counting(self, x):
    self.calls += 1
    return self.layer(x) * self.calls


def seen(self, x):
    self.seen.add_(x.mean(0))
    return self.layer(x)


def counted(self, x):
    self.count = self.count + 1
    return self.layer(x)


def replacing(self, x):
    if self.training:
        self.seen = x.mean(0).detach()
    return self.layer(x - self.seen)


def doubled(self, x):
    x *= 2
    return self.layer(x)


def without_gradient(self, x):
    with torch.no_grad():
        return self.layer(x)


def auxiliary(self, x):
    return (self.layer(x), x) if self.training else self.layer(x)


def closed():
    """Its activation reaches a parameter of the first module through a closure, which a copy keeps."""
    module = flat()
    scale = nn.Parameter(torch.ones(64))
    module[1].register_parameter("scale", scale)
    module[1].register_forward_pre_hook(lambda layer, args: (args[0] * scale,))
    return module


def old_weight_norm():
    with pytest.warns(FutureWarning):
        return nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(64, CLASSES)))


def with_buffer(value):
    module = flat()
    module.register_buffer("table", value)
    return module


def tokens(**knobs):
    return nn.Sequential(nn.Flatten(), Coded(), nn.Embedding(17, 4, **knobs), nn.Flatten(), nn.Linear(256, CLASSES))


class Coded(nn.Module):
    def forward(self, x):
        return (x * 16).long()


def frozen_out(self, x):
    return self.layer(x).detach() + 0 * self.layer.bias


class Drawn(nn.Module):
    """Keeps numbers that are no buffer, and draws them where the seed does not reach."""

    def __init__(self, buffer=False):
        super().__init__()
        self.layer = nn.Linear(64, CLASSES)
        self.mask = torch.tensor([random.random() for _ in range(64)])

    def forward(self, x):
        return self.layer(x.flatten(1) * self.mask)


class OwnWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([random.random() for _ in range(640)]).view(64, 10))

    def forward(self, x):
        return x.flatten(1) @ self.weight


REFUSED = {
    "forgotten training=": (
        lambda: Around(lambda m, x: m.layer(F.dropout(x))),
        "asked again, in evaluation",
        "F.dropout",
    ),
    "noise": (lambda: Around(lambda m, x: m.layer(x + 0.01 * torch.randn_like(x))), "draws or remembers", "state"),
    "a counter": (lambda: Around(counting), "draws or remembers", "keep no state"),
    "a buffer written to": (lambda: Around(seen), "changes seen in evaluation", r"self\.training"),
    "a buffer replaced": (lambda: Around(counted), "changes count in evaluation", r"self\.training"),
    "a buffer replaced in training": (lambda: Around(replacing), "replaces the buffer seen", r"self\.seen\.copy_"),
    "inputs changed": (lambda: Around(doubled), "changes its inputs in place", r"x = x \* 2"),
    "mean of the batch": (
        lambda: Around(lambda m, x: m.layer(x - x.mean(0))),
        "depends on the other examples",
        r"x\.mean\(1\), not x\.mean\(\)",
    ),
    "BatchNorm without statistics": (
        lambda: convolutional(nn.BatchNorm2d(8, track_running_stats=False)),
        "depends on the other examples of its batch, in evaluation too: in batches of 2 record",
        "track_running_stats",
    ),
    "softmax": (lambda: nn.Sequential(flat(), nn.Softmax(1)), "answers probabilities", "give logits"),
    "sigmoid": (lambda: nn.Sequential(flat(), nn.Sigmoid()), "answers probabilities", "give logits"),
    "clamp": (lambda: nn.Sequential(flat(), nn.Hardtanh(0, 1)), "answers probabilities", "give logits"),
    "one logit": (lambda: flat(1), r"answers \(2, 1\) for 2 records and 10 classes", "one logit per class"),
    "no axis": (lambda: nn.Sequential(flat(1), nn.Flatten(0)), r"answers \(2,\) for 2 records", "one logit per class"),
    "a tuple": (lambda: Around(lambda m, x: (m.layer(x), x)), "answers a tuple, not a tensor", "one logit per class"),
    "a dict": (lambda: Around(lambda m, x: {"logits": m.layer(x)}), "answers a dict, not a tensor", "nothing else"),
    "a tuple in training": (
        lambda: Around(auxiliary),
        "a tuple, not a tensor of logits, in training mode",
        "one logit",
    ),
    "classes": (lambda: Around(lambda m, x: m.layer(x).round().long()), "answers int64, not logits", "rounded"),
    "NaN": (lambda: Around(lambda m, x: m.layer(x).sub(9).log()), "answers NaN or infinity", r"log\(0\)"),
    "infinity": (lambda: Around(lambda m, x: m.layer(x) / 0), "answers NaN or infinity", "0/0"),
    "an infinite gradient": (
        lambda: Around(lambda m, x: m.layer(x) + (m.layer.bias * 0).sqrt()),
        "gradient is NaN",
        "sqrt",
    ),
    "other inputs": (lambda: nn.Linear(30, 10), r"cannot read inputs of shape \(1, 8, 8\): RuntimeError", "choose"),
    "exit in forward": (lambda: Around(lambda m, x: sys.exit("gone")), "cannot read .*SystemExit: gone", "choose"),
    "old weight_norm": (old_weight_norm, r"1\.weight is computed outside of forward", "parametrizations"),
    "DataParallel": (lambda: nn.DataParallel(flat()), "wrapped in torch.nn.DataParallel", r"model\.module"),
    "float64": (lambda: flat().double(), r"parameter 1\.weight is float64", r"\.float\(\)"),
    "float16": (lambda: flat().half(), r"parameter 1\.weight is float16", r"\.float\(\)"),
    "float64 buffer": (
        lambda: with_buffer(torch.tensor([0.1], dtype=torch.float64)),
        r"buffer table \(float64\)",
        "float32",
    ),
    "a large number": (lambda: with_buffer(torch.tensor([2**24 + 1])), r"buffer table \(int64\)", "float32"),
    "complex buffer": (
        lambda: with_buffer(torch.ones(1, dtype=torch.complex64)),
        r"buffer table \(complex64\)",
        "float32",
    ),
    "lazy": (lambda: flat().append(Unused()), "no shape yet", "sizes"),
    "no parameters": (
        lambda: nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(10)),
        "no parameters",
        "layers that learn",
    ),
    "no gradient": (lambda: Around(without_gradient), "no gradient reaches", "no_grad"),
    "a gradient of zero": (lambda: Around(frozen_out), "gradient of every parameter is zero", "forward"),
    "a closure": (closed, "a copy of the model with other weights still answers from those of the first", "self"),
    "numbers that are not stored": (
        Drawn,
        "built again with the same weights, the model answers otherwise",
        "register_buffer",
    ),
    "weights that no seed decides": (OwnWeights, "from the same seed, the model has other first weights", "generator"),
}


class Unused(nn.Module):
    """A lazy layer that forward does not reach."""

    def __init__(self):
        super().__init__()
        self.later = nn.LazyLinear(3)

    def forward(self, x):
        return x


def built(make):
    with scoped(Stream(5)):
        return make()


def probe(make, trained=True):
    return probed(built(make), SHAPE, CLASSES, trained=trained, again=lambda: built(make))


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_that_is_no_model_is_refused_by_what_it_does(name):
    make, reason, remedy = REFUSED[name]
    with pytest.raises(Refused, match=reason) as refused:
        probe(make)
    assert refused.value.where == "model"
    assert re.search(remedy, refused.value.remedy), refused.value.remedy


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (None, "one logit per class, as the task single-label asks for; for findings, numbers or masks name another"),
        (MultiLabel(), r"answers of shape \(10,\), as the task multi-label asks for: one logit a label"),
        (
            Regression(0.0, 1.0, 0.1),
            r"answers of shape \(10,\), as the task regression asks for: one number a quantity",
        ),
        (Masks(0.7), r"answers of shape \(10, 8, 8\), as the task masks asks for: one logit a label and place"),
    ],
)
def test_a_refused_shape_says_what_the_task_asks_for(task, words):
    with pytest.raises(Refused, match=f"It must return {words}") as refused:
        try:
            probed(flat(3), SHAPE, CLASSES, trained=True, task=task)
        except Refused as error:
            raise Refused(str(error)) from None
    assert "(2, 3) for 2 records" in str(refused.value)


def tied():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, CLASSES))
    module[3].weight = module[1].weight
    return module


class Recurrent(nn.Module):
    def __init__(self, kind=nn.GRU):
        super().__init__()
        self.layer, self.out = kind(8, 16, batch_first=True), nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.out(self.layer(x[:, 0])[0][:, -1])


def zero_started():
    module = flat()
    nn.init.zeros_(module[1].weight)
    nn.init.zeros_(module[1].bias)
    return module


ACCEPTED = {
    "dropout": lambda: nn.Sequential(nn.Dropout(0.5), flat()),
    "dropout with training=": lambda: Around(lambda m, x: m.layer(F.dropout(x, training=m.training))),
    "BatchNorm": lambda: convolutional(nn.BatchNorm2d(8), nn.ReLU()),
    "InstanceNorm": lambda: convolutional(nn.InstanceNorm2d(8, affine=True), nn.ReLU()),
    "log_softmax": lambda: nn.Sequential(flat(), nn.LogSoftmax(1)),
    "ReLU at the end": lambda: nn.Sequential(flat(), nn.ReLU()),
    "tanh at the end": lambda: nn.Sequential(flat(), nn.Tanh()),
    "new weight_norm": lambda: nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(64, CLASSES))),
    "spectral_norm": lambda: nn.Sequential(nn.Flatten(), parametrizations.spectral_norm(nn.Linear(64, CLASSES))),
    "orthogonal": lambda: nn.Sequential(nn.Flatten(), parametrizations.orthogonal(nn.Linear(64, CLASSES))),
    "tied weights": tied,
    "GRU": Recurrent,
    "LSTM": lambda: Recurrent(nn.LSTM),
    "attention": lambda: nn.Sequential(
        nn.Flatten(1, 2), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten(), nn.Linear(64, CLASSES)
    ),
    "zeros at first": zero_started,
    "hooks": lambda: with_hook(flat()),
    "tokens": tokens,
    "what it saw": lambda: Around(keeping),
    "a whole buffer": lambda: with_buffer(torch.arange(5)),
}


def keeping(self, x):
    """Keeps activations to look at, and answers from none of them."""
    self.last, self.all = x.detach(), [x.detach()]
    return self.layer(x)


def with_hook(module):
    module.register_forward_hook(lambda layer, args, out: out * 2)
    return module


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_model_is_accepted_and_left_as_it_was(name):
    with scoped(Stream(5)):
        module = ACCEPTED[name]()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    draws = torch.get_rng_state()
    network = probed(module, SHAPE, CLASSES, trained=True, again=lambda: built(ACCEPTED[name]))
    assert module.training and all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    held = network.module_at(*network.start()).state_dict()
    assert held.keys() == before.keys() and all(torch.equal(held[key], before[key]) for key in before)
    assert torch.equal(draws, torch.get_rng_state())


@pytest.mark.parametrize(
    "card",
    [c for c in catalogue.cards("learn/models") if c.kind not in ("module", "file", "stored-module")],
    ids=lambda c: c.kind,
)
def test_every_model_of_the_house_is_accepted(card):
    make = catalogue.load_entry(card)(**{"resnet9": {"width": 8, "groups": 4}}.get(card.kind, {}))
    tokens, shape = (50, (12,)) if isinstance(make, TextArchitecture) else (0, (1, 28, 28))
    again = lambda: built(lambda: make.build_for(tokens, shape, 10))  # noqa: E731
    probed(again(), shape, 10, trained=True, again=again, tokens=tokens)


USERS = """
import torch, warnings
from torch import nn
from torch.nn import functional as F

def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))

def convolution():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2))

class Dropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = nn.Linear(30, 2)

    def forward(self, x):
        return self.h(F.dropout(x, 0.5))
"""


@pytest.fixture
def users(tmp_path, monkeypatch, tables):
    (tmp_path / "probed_net.py").write_text(USERS)
    monkeypatch.syspath_prepend(tmp_path)
    tables |= {"attacks": [], "corruptions": [], "unlawful": "skip"}
    return lambda name: {**tables, "model": {"kind": "module", "path": f"probed_net:{name}", "allow-code": True}}


def test_a_random_module_is_refused_for_every_arm_before_anything_trains(users, tmp_path):
    for vary in ({}, {"compression": [{"kind": "static-int8"}]}):
        with pytest.raises(Refused, match="asked again, in evaluation"):
            Study.of({**users("Dropout"), "vary": vary}).run(tmp_path / "out", quiet=True)
    assert not list(tmp_path.glob("out/*/models/*"))


def test_lazy_layers_take_their_shapes_from_the_data_and_are_loaded_again(users, tmp_path):
    results = Study.of({**users("lazy"), "vary": {"compression": [{"kind": "static-int8"}]}}).run(tmp_path, quiet=True)
    assert not results.outcome.failed
    cell = results.folder / "cells" / results.plan.cells[0].digest
    model = consilium.load(cell, allow_code=True)
    assert model[1].in_features == 30 and type(model[1]) is nn.Linear
    with pytest.raises(Refused, match=r"lazy layers of probed_net:convolution cannot read an input of shape \(30,\)"):
        Study.of(users("convolution")).plan()
