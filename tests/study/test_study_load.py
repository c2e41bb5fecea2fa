"""The released model and its test set, from the cell alone and in another process, give the evidence's accuracy."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

import consilium
from consilium import Study
from consilium.core.errors import Refused
from consilium.defend.answer.round_answer import RoundAnswer
from consilium.study.evaluate.release import Answering

OUTSIDE = """
import json, sys
import torch, consilium
said = {}
for cell in sys.argv[1:]:
    model, test = consilium.load(cell), consilium.test_set(cell)
    assert isinstance(model, torch.nn.Module) and not any(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        right = (model(test.x).argmax(1) == test.y)
    said[cell] = int(right.sum()) / len(right)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def kinds(run_study):
    """Arms of every moment after training, alone and in a row."""
    return run_study("""
        name = "kinds"
        threads = 1
        attacks = ["fgsm"]
        [data]
        kind = "digits"
        sites = 2
        public = 0.1
        [model]
        kind = "cnn"
        width = 4
        [federation]
        kind = "fed-avg"
        rounds = 2
        lr = 0.2
        [vary]
        compression = ["static-int8", "prune", ["prune", "static-int8"]]
        answer = [{ kind = "round-answer", digits = 1 }]
    """)


def outside(cells):
    """Accuracy by cell, computed by a fresh interpreter that knows the folder only."""
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE, *map(str, cells)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def accuracy(evidence):
    return next(m["value"] for m in evidence["utility"] if m["name"] == "accuracy")


def test_every_cell_reproduces_its_accuracy_exactly(tiny, kinds):
    wanted = {str(ran.cell(*key)): accuracy(e) for ran in (tiny, kinds) for key, e in ran.cells().items()}
    assert len(wanted) == 16 + 8
    assert outside(wanted) == wanted
    assert len(set(wanted.values())) > 6


def test_the_answer_is_what_was_judged_and_not_what_lies_behind_it(kinds):
    plain, rounded = (consilium.load(kinds.cell(arm)) for arm in ("none", "round-answer"))
    x = consilium.test_set(kinds.cell("none")).x
    assert isinstance(rounded, Answering)
    told = rounded(x).exp()
    assert torch.allclose(told, plain(x).softmax(1).round(decimals=1), atol=1e-6)


def test_a_knob_set_to_none_is_still_none_when_it_is_loaded(tmp_path, tables):
    """round-answer(digits=None) keeps all digits; a file that dropped the None would round to two."""
    arm = RoundAnswer(digits=None, top_k=1)
    once = {"kind": "fed-avg", "rounds": 1}
    study = Study(name="none", data="breast-cancer", model="logistic", federation=once, vary={"a": [arm]})
    results = study.run(tmp_path, quiet=True)
    cell = next(c for c in results.plan.cells if c.arm.name != "none")
    model = consilium.load(results.folder / "cells" / cell.digest)
    assert model.defences == (arm,)


def test_what_is_no_cell_is_refused_in_one_line(tmp_path, kinds):
    with pytest.raises(Refused, match="is no cell"):
        consilium.load(tmp_path)
    (tmp_path / "evidence.json").write_text("{}")
    with pytest.raises(Refused, match="is no cell"):
        consilium.test_set(tmp_path)
    shutil.copytree(kinds.folder, tmp_path / "kinds")
    cell = tmp_path / "kinds" / "cells" / kinds.cell("none").name
    model = tmp_path / "kinds" / "models" / kinds.cells()["none", "none", 0]["model"]
    (model / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(Refused, match=r"cannot read .*safetensors"):
        consilium.load(cell)
    shutil.rmtree(model)
    with pytest.raises(Refused, match=r"the model of .* is not there"):
        consilium.load(cell)


def test_other_data_are_refused(tmp_path, kinds, monkeypatch):
    shutil.copytree(kinds.folder, tmp_path / "kinds")
    cell = tmp_path / "kinds" / "cells" / kinds.cell("none").name
    path = tmp_path / "kinds" / "models" / kinds.cells()["none", "none", 0]["model"] / "recipe.json"
    whole = path.read_text()
    recipe = json.loads(whole)
    recipe["data"]["non-members"] = 0.3
    path.write_text(json.dumps(recipe))
    with pytest.raises(Refused, match=r"recipe\.json is that of another model, or was changed"):
        consilium.test_set(cell)
    path.write_text(whole)
    monkeypatch.setattr("consilium.study.run.load.data_digest", lambda data: "of other data")
    with pytest.raises(Refused, match="not those that the cell was judged on"):
        consilium.test_set(cell)


USERS = """
from torch import nn

def small(hidden=4):
    print("user code runs")
    return nn.Sequential(nn.Linear(30, hidden), nn.ReLU(), nn.Linear(hidden, 2))
"""


def test_a_users_module_is_imported_only_when_it_is_trusted(tmp_path, monkeypatch, tables, capsys):
    (tmp_path / "users_own_net.py").write_text(USERS)
    monkeypatch.syspath_prepend(tmp_path)
    tables |= {"model": {"kind": "module", "path": "users_own_net:small"}, "vary": {}, "attacks": [], "corruptions": []}
    with pytest.raises(Refused, match="allow-code = true"):
        Study.of(tables).plan()
    assert "users_own_net" not in sys.modules and "user code" not in capsys.readouterr().out
    tables["model"] |= {"allow-code": True, "arguments": {"hidden": 6}}
    results = Study.of(tables).run(tmp_path / "out", quiet=True)
    cell = results.folder / "cells" / results.plan.cells[0].digest
    capsys.readouterr()
    with pytest.raises(Refused, match="allow_code=True"):
        consilium.load(cell)
    assert "user code" not in capsys.readouterr().out
    assert consilium.load(cell, allow_code=True)[0].out_features == 6
    audit = {**tables, "name": "audit"}
    del audit["federation"]
    stored = results.folder / "models" / results.plan.cells[0].model / "model.safetensors"
    audit["model"] = {"kind": "file", "path": str(stored), "architecture": tables["model"]}
    results = Study.of(audit).run(tmp_path / "out", quiet=True)
    with pytest.raises(Refused, match="allow_code=True"):
        consilium.load(results.folder / "cells" / results.plan.cells[0].digest)


def test_a_frozen_parameter_is_a_constant_and_is_loaded_with_the_rest(tmp_path, monkeypatch, tables):
    frozen = USERS.replace("    return ", "    made = ") + "    made[0].requires_grad_(False)\n    return made\n"
    (tmp_path / "frozen_net.py").write_text(frozen)
    monkeypatch.syspath_prepend(tmp_path)
    tables |= {"vary": {}, "attacks": [], "corruptions": []}
    tables["model"] = {"kind": "module", "path": "frozen_net:small", "allow-code": True}
    results = Study.of(tables).run(tmp_path / "out", quiet=True)
    constants = results.plan.materials.network(0).constants
    assert set(constants) == {"0.weight", "0.bias"}
    loaded = consilium.load(results.folder / "cells" / results.plan.cells[0].digest, allow_code=True)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in constants.items())


def test_a_users_code_is_part_of_the_digest(tmp_path, monkeypatch, tables):
    monkeypatch.syspath_prepend(tmp_path)
    digests = set()
    for i, activation in enumerate(("ReLU", "Tanh")):
        (tmp_path / f"changed_net_{i}.py").write_text(USERS.replace("ReLU", activation))
    (tmp_path / "changed_net.py").write_text("from changed_net_0 import small\n")
    tables |= {"vary": {}, "attacks": [], "corruptions": []}
    tables["model"] = {"kind": "module", "path": "changed_net:small", "allow-code": True}
    for i in range(2):
        (tmp_path / "changed_net.py").write_text(f"from changed_net_{i} import small  # {'#' * i}\n")
        sys.modules.pop("changed_net", None)
        digests |= set(Study.of(tables).plan().trainings)
    assert len(digests) == 2


FAILING = """
import os
from torch import nn

TABLES = {} if os.environ.get("BROKEN_NET") else {"width": 1}

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(30, 2))

    def forward(self, x):
        return super().forward(x) * TABLES["width"]

    def eval(self):
        TABLES["width"]
        return super().eval()
"""


@pytest.mark.parametrize("defence", [[], ["prune"], ["static-int8"]])
def test_what_a_users_module_raises_is_no_broken_recipe(tables, tmp_path, monkeypatch, defence):
    (tmp_path / "failing_net.py").write_text(FAILING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "failing_net", raising=False)
    tables |= {"attacks": [], "corruptions": [], "vary": {"compression": defence} if defence else {}}
    tables["model"] = {"kind": "module", "path": "failing_net:Net", "allow-code": True}
    results = Study.of(tables).run(tmp_path / "out", quiet=True)
    assert not results.outcome.failed
    cell = results.folder / "cells" / results.plan.cells[-1].digest
    consilium.load(cell, allow_code=True)
    monkeypatch.setattr(sys.modules["failing_net"], "TABLES", {})
    with pytest.raises(
        Refused, match=r"the model's own code fails: KeyError: 'width' \(.*failing_net\.py:\d+\)"
    ) as refused:
        consilium.load(cell, allow_code=True)
    assert "recipe" not in str(refused.value)
