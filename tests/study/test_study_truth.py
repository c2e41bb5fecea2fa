"""What is judged is what was trained: members, weights, answers and code are those of the released model."""

import json
from pathlib import Path

import torch
from torch import nn

from consilium import Study, load
from consilium.core.network import Network
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.defend.answer.round_answer import RoundAnswer
from consilium.learn.tasks.single_label import SingleLabel
from consilium.study.evaluate.release import Answering, release
from consilium.study.plan.stage_keys import start_mark

BASE = {"name": "truth", "threads": 1, "data": {"kind": "breast-cancer", "sites": 5}, "model": "logistic"}


def test_members_are_records_of_sites_that_took_part(tmp_path):
    """LAWS 17: the records of a site that was never in a cohort were not learned from."""
    federation = {"kind": "fed-avg", "rounds": 2, "fraction": 0.2}
    ran = Study.of({**BASE, "federation": federation, "attacks": ["loss-threshold"]}).run(tmp_path, quiet=True)
    (cell,) = ran.plan.cells
    rounds = (ran.folder / "trainings" / cell.training / "rounds.jsonl").read_text().splitlines()
    took_part = {site for line in rounds for site in json.loads(line)["cohort"]}
    assert 0 < len(took_part) < 5
    sites = [s.records for s in ran.plan.materials.consortium(0).sites if s.id in took_part]
    from safetensors.torch import load_file

    asked = load_file(ran.folder / "cells" / cell.digest / "loss-threshold.safetensors")["member"]
    assert int(asked.sum()) == sum(len(s.train) for s in sites)
    assert int((asked == 0).sum()) == sum(len(s.non_members) for s in sites)


class Shifted(nn.Module):
    """A layer whose buffer is left out of its state dict."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("shift", torch.zeros(2), persistent=False)

    def forward(self, x):
        return self.layer(x) + self.shift


def test_a_buffer_that_no_state_dict_holds_is_released_as_it_was_trained(tmp_path):
    network = Network(Shifted())
    params, buffers = network.start()
    plain = network.module_at(params, buffers + 5)
    assert torch.equal(plain.shift, torch.full((2,), 5.0))
    public = Records.of(torch.rand(4, 3), torch.zeros(4).long())
    made = release(plain, (), (), public, SingleLabel(), tmp_path / "model.safetensors", Stream(0))
    assert torch.equal(made.module(public.x), plain(public.x))
    assert torch.equal(made.module.shift, plain.shift)


def test_the_label_is_the_models_own_where_rounding_makes_a_tie():
    logits = torch.tensor([[0.0, 0.1, 0.05], [0.3, 0.0, 0.2]])
    answered = Answering(nn.Identity(), (RoundAnswer(digits=0),))(logits)
    assert answered.argmax(1).tolist() == [1, 0]
    confidences = answered.exp()
    assert float(confidences.max()) < 1e-5  # nothing but the label is told
    assert torch.allclose(confidences[0].sort().values, confidences[1].sort().values)


MINE = """
import torch
from torch import nn

def squash(x):
    return torch.{name}(x)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(30, 2)

    def forward(self, x):
        return squash(self.layer(x))
"""


def test_a_digest_knows_the_functions_beside_a_users_class(tmp_path, monkeypatch):
    import importlib
    import sys

    monkeypatch.chdir(tmp_path)
    marks = []
    for name in ("relu", "tanh"):
        Path("squashing_module.py").write_text(MINE.format(name=name))
        sys.modules.pop("squashing_module", None)
        importlib.invalidate_caches()
        monkeypatch.syspath_prepend(str(tmp_path))
        torch.manual_seed(0)
        marks.append(start_mark(Network(importlib.import_module("squashing_module").Net())))
    assert marks[0] != marks[1]


def test_a_stored_model_is_used_again_under_another_number_of_threads(tmp_path):
    """Fine-tuning differs at the last bit between thread counts; what is stored counts, not what would be made now."""
    source = Study.of({**BASE, "federation": {"kind": "fed-avg", "rounds": 1}}).run(tmp_path / "a", quiet=True)
    weights = source.folder / "models" / source.plan.cells[0].model / "model.safetensors"
    model = {"kind": "file", "path": str(weights), "architecture": {"kind": "logistic"}}
    prune = {"kind": "prune", "sparsity": 0.5, "fine-tune-steps": 20}
    audit = {**BASE, "model": model, "vary": {"compression": [prune]}, "attacks": ["fgsm"]}
    first = Study.of(audit).run(tmp_path / "b", quiet=True)
    files = {c.digest: load(first.folder / "cells" / c.digest) for c in first.plan.cells}
    again = Study.of({**audit, "threads": 2, "attacks": ["fgsm", "pgd"]}).run(tmp_path / "b", quiet=True)
    assert not again.outcome.failed
    assert {c.digest for c in again.plan.cells} == set(files)
