"""A file that a user's model imports from its own folder is code of the model: in its digest, asked when released."""

import sys

import pytest

from consilium import Study

NET = """
from torch import nn
import {helper}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(30, 2)

    def forward(self, x):
        return {helper}.bend(self.layer(x))
"""
HELPER = "import torch\n\ndef bend(x):\n    return torch.{name}(x) * 1.5\n"


@pytest.fixture
def nets(tables, tmp_path, monkeypatch):
    """Writes the helper and forgets what was imported; returns the study of the module."""
    monkeypatch.chdir(tmp_path)
    for name in ("attacks", "corruptions", "vary"):
        tables.pop(name, None)
    (tmp_path / "net_importing.py").write_text(NET.format(helper="net_helper"))
    model = {"kind": "module", "path": "net_importing:Net", "allow-code": True}

    def study(name, **more):
        (tmp_path / "net_helper.py").write_text(HELPER.format(name=name))
        forget()
        return Study.of({**tables, "model": model, **more})

    yield study
    forget()


def forget():
    for name in ("net_importing", "net_helper"):
        sys.modules.pop(name, None)


def marks(study):
    return study.plan().materials.marks(0)[1]


def test_another_helper_is_another_training(nets, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python's cache is too coarse to notice a quick edit
    first, other, again = (marks(nets(name)) for name in ("tanh", "sinh", "tanh"))
    assert first != other
    assert first == again


def test_answers_of_changed_code_are_neither_judged_nor_written_over_the_first(nets, tmp_path, monkeypatch):
    """The helper lies in another folder, which no digest covers: the first answers tell that the code is another."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    (tmp_path / "lib").mkdir()
    study = nets("tanh")
    (tmp_path / "net_helper.py").rename(tmp_path / "lib" / "net_helper.py")
    first = study.run("out", quiet=True, executor="serial")
    recipe = next(first.folder.glob("models/*/recipe.json"))
    before = recipe.read_bytes()
    attacked = Study.of({**study.table(), "attacks": [{"kind": "pgd", "radius": 0.05, "steps": 1}]})
    (tmp_path / "lib" / "net_helper.py").write_text(HELPER.format(name="sinh"))
    forget()
    results = attacked.run("out", quiet=True, executor="serial")
    evidence = next(results.folder.glob("cells/*/evidence.json")).read_text()
    assert "answers otherwise than when it was released" in evidence
    assert recipe.read_bytes() == before
    (tmp_path / "lib" / "net_helper.py").write_text(HELPER.format(name="tanh"))
    forget()
    results = attacked.run("out", quiet=True, executor="serial")
    assert "answers otherwise" not in next(results.folder.glob("cells/*/evidence.json")).read_text()
