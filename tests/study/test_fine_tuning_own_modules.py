"""Parts of a user's own module that fine-tuning cannot train: refused at the plan, by the layer's name."""

import pytest

from consilium import Study
from consilium.core.errors import Refused

USERS = """
import torch
from torch import nn
from torch.nn import functional as F

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(30, 30), nn.Linear(30, 30), nn.Linear(30, 2)

    def forward(self, x):
        return self.head(torch.relu(self.b(torch.relu(self.a(x)))))

class Tied(Plain):
    def __init__(self):
        super().__init__()
        self.b.weight = self.a.weight

class Read(Plain):
    def forward(self, x):
        return self.head(torch.relu(self.b(F.linear(x, self.a.weight, self.a.bias))))

class CalledAndRead(Plain):
    def forward(self, x):
        return self.head(torch.relu(self.b(torch.relu(self.a(x))) @ self.b.weight))

class Chosen(Plain):
    def forward(self, x):  # an addition is no nn.Linear, so its layer is left out without an error
        for layer in self.children():
            x = layer(x) if type(layer) is nn.Linear else layer.layer(x)
        return x

class FrozenHead(Plain):
    def __init__(self):
        super().__init__()
        self.head.requires_grad_(False)
"""
LORA, HEAD = {"lora": 2}, "head"


@pytest.fixture
def plan(tables, tmp_path, monkeypatch):
    """The plan of a small study that trains a part of a module in the user's file."""
    (tmp_path / "own_nets.py").write_text(USERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("attacks", "corruptions", "vary"):
        tables.pop(name, None)
    of = lambda name: {"kind": "module", "path": f"own_nets:{name}", "allow-code": True}  # noqa: E731
    return lambda name, train: Study.of({**tables, "model": {**of(name), "train": train}}).plan()


MISFITS = {
    "Tied": (LORA, r"b\.weight is one tensor with a\.weight"),
    "Read": (LORA, r"addition to a does not fit the model: its forward fails .*weight"),
    "CalledAndRead": (LORA, r"addition to b does not fit the model: its forward fails .*weight"),
    "Chosen": (LORA, r"addition to a does not fit the model: plain weights would answer otherwise"),
    "FrozenHead": (LORA, r"freezes head\.weight itself"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_an_addition_that_cannot_be_released_is_refused_by_name(plan, name):
    train, message = MISFITS[name]
    with pytest.raises(Refused, match=message) as refused:
        plan(name, train)
    assert refused.value.where == "model.train"
    assert "\n" not in str(refused.value)


def test_a_module_that_calls_its_layers_has_additions(plan):
    assert any("additions to a, b" in note for note in plan("Plain", LORA).materials.start_notes(0))


@pytest.mark.parametrize("name", ["Tied", "Read", "CalledAndRead"])
def test_the_head_alone_trains_in_the_same_modules(plan, name):
    assert plan(name, HEAD).trainings


def test_a_head_that_the_module_freezes_is_refused_and_trains_where_it_is_named(plan):
    with pytest.raises(Refused, match=r"freezes head\.weight itself"):
        plan("FrozenHead", HEAD)
    assert plan("FrozenHead", ["head"]).materials.network(0).size == 62
