"""A user's file that draws when it is imported gives the same model in every process, or is refused."""

import json
import sys

import pytest
from torch import nn

import consilium
from consilium import Study
from consilium.core.errors import Refused

AT_IMPORT = """
import random
import torch
from torch import nn
from torch.nn import functional as F

FIXED = nn.Linear(30, 30)  # from torch's generator: the same in every process

class Fixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = nn.Linear(30, 2)

    def forward(self, x):
        return self.h(FIXED(x))

DRAWN = torch.tensor([random.random() for _ in range(30)])

class Drawn(nn.Module):
    def __init__(self):
        super().__init__()
        self.h = nn.Linear(30, 2)

    def forward(self, x):
        return self.h(x * DRAWN)

def make():
    scale = DRAWN
    module = nn.Sequential(nn.Linear(30, 2))
    module.register_forward_hook(lambda layer, args, out: out * scale[:2])
    return module
"""

OUTSIDE = """
import sys, consilium
model, test = consilium.load(sys.argv[1], allow_code=True), consilium.test_set(sys.argv[1])
print(float((model(test.x).argmax(1) == test.y).double().mean()))
"""


@pytest.fixture
def drawing(tmp_path, monkeypatch, tables):
    """A file that draws when it is imported, under a name of its own."""
    (tmp_path / "drawing_net.py").write_text(AT_IMPORT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "drawing_net", raising=False)
    tables |= {"attacks": [], "corruptions": [], "vary": {}}
    return lambda name: {**tables, "model": {"kind": "module", "path": f"drawing_net:{name}", "allow-code": True}}


@pytest.mark.parametrize("name", ["Drawn", "make"])
def test_what_is_drawn_at_import_by_another_generator_is_refused(drawing, name):
    with pytest.raises(
        Refused, match="built again after a fresh import with the same weights, the model answers other"
    ):
        Study.of(drawing(name)).plan()
    assert "drawing_net" in sys.modules


def test_what_is_drawn_at_import_by_torch_is_the_same_in_another_process(drawing, tmp_path, consilium_cli):
    results = Study.of(drawing("Fixed")).run(tmp_path / "out", quiet=True)
    cell = results.folder / "cells" / results.plan.cells[0].digest
    (tmp_path / "outside.py").write_text(OUTSIDE)
    done = consilium_cli(cell, program=tmp_path / "outside.py", cwd=tmp_path)
    assert done.code == 0, done.err
    utility = json.loads((cell / "evidence.json").read_text())["utility"]
    assert float(done.out) == next(m["value"] for m in utility if m["name"] == "accuracy")


def test_a_model_whose_code_has_changed_is_not_loaded(drawing, tmp_path, monkeypatch):
    results = Study.of(drawing("Fixed")).run(tmp_path / "out", quiet=True)
    cell = results.folder / "cells" / results.plan.cells[0].digest
    consilium.load(cell, allow_code=True)
    monkeypatch.setattr(sys.modules["drawing_net"], "FIXED", nn.Linear(30, 30))
    with pytest.raises(Refused, match="answers otherwise than when it was released, with the same weights"):
        consilium.load(cell, allow_code=True)
