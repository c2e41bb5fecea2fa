"""A converted model answers a record alike alone and in every batch, or is refused by name and never stored."""

import json

import pytest
import torch
from safetensors.torch import load_file

import consilium
from consilium import Study
from consilium.core.errors import Unlawful
from consilium.defend.model import _fx
from consilium.defend.model.prune import Prune
from consilium.study.plan import rules as laws

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.n, self.h = nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4, affine=True), nn.Linear(256, 10)

    def forward(self, x):
        return self.h(torch.relu(self.n(self.c(x))).flatten(1))
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """pytorch/pytorch 54837 as a study: a CNN with InstanceNorm, in fp32 and int8, asked who was in the training."""
    (tmp_path / "instance_norm_net.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    return {
        "name": "inorm",
        "threads": 1,
        "data": {"kind": "digits", "sites": 2},
        "model": {"kind": "module", "path": "instance_norm_net:Net", "allow-code": True},
        "federation": {"kind": "fed-avg", "rounds": 2, "momentum": 0.9},
        "vary": {"compression": [{"kind": "static-int8"}]},
        "attacks": [{"kind": "loss-threshold"}],
    }


def all_in_int8(monkeypatch):
    monkeypatch.setattr(_fx, "_FLOAT_MODULES", ())
    monkeypatch.setattr(_fx, "_FLOAT_FUNCTIONS", ())


def value(measures, name):
    return next(m["value"] for m in measures if m["name"] == name)


def largest_difference(one, other):
    """Between the advantages of two models on the same candidates, over all thresholds that both are given.

    Each model's own threshold is drawn from few records and moves its advantage by 0.08; at a common one the difference
    is at most the share of candidates that change sides.
    """
    assert torch.equal(one["id"], other["id"]) and torch.equal(one["member"], other["member"])
    member = one["member"]

    def advantages(scores):
        above = (scores > one["score"][:, None]).double()
        return above[:, member].mean(1) - above[:, ~member].mean(1)

    return float((advantages(one["score"]) - advantages(other["score"])).abs().max())


def test_int8_with_instance_norm_is_right_in_batches_and_leaks_nothing_that_is_not_there(study, tmp_path):
    results = Study.of(study).run(tmp_path / "out", quiet=True)
    accuracy, auc, candidates = {}, {}, {}
    for cell in results.plan.cells:
        folder = results.folder / "cells" / cell.digest
        evidence = json.loads((folder / "evidence.json").read_text())
        assert evidence["status"] == "ok", evidence["error"]
        model, test = consilium.load(folder, allow_code=True), consilium.test_set(folder)
        with torch.no_grad():
            together, alone = model(test.x), torch.cat([model(record[None]) for record in test.x])
        assert torch.equal(together.argmax(1), alone.argmax(1))
        accuracy[cell.arm.name] = value(evidence["utility"], "accuracy")
        assert accuracy[cell.arm.name] == pytest.approx(float((alone.argmax(1) == test.y).double().mean()))
        auc[cell.arm.name] = value(evidence["findings"]["loss-threshold"]["measures"], "auc")
        candidates[cell.arm.name] = load_file(folder / "loss-threshold.safetensors")
    assert accuracy["none"] > 0.8 and abs(accuracy["static-int8"] - accuracy["none"]) < 0.02
    assert abs(auc["static-int8"] - auc["none"]) < 0.01
    assert largest_difference(candidates["none"], candidates["static-int8"]) < 0.05


def test_a_wrong_kernel_is_refused_before_training_by_size_record_and_amount(study, monkeypatch):
    all_in_int8(monkeypatch)
    with pytest.raises(
        Unlawful,
        match=r"static-int8: in batches of (65|257) record \d is answered otherwise than alone, by .* of the spread of "
        r"its logits, first at layer n \(InstanceNorm2d\)",
    ) as refused:
        Study.of(study).plan()
    assert "(LAWS 21)" in refused.value.reason and "leave out static-int8" in refused.value.remedy


def test_a_wrong_kernel_that_the_plan_did_not_see_is_refused_before_it_is_stored(study, monkeypatch, tmp_path):
    all_in_int8(monkeypatch)
    monkeypatch.setattr(laws, "departure", lambda *_: None)
    results = Study.of(study).run(tmp_path / "out", quiet=True)
    (line,) = results.outcome.failed.values()
    assert (
        "static-int8: in batches of 65 record " in line and "public slice" in line and "Leave out static-int8" in line
    )
    stored = [path.parent.name for path in (results.folder / "models").glob("*/model.safetensors")]
    assert stored == [c.model for c in results.plan.cells if c.arm.name == "none"]


def test_every_defence_of_the_model_is_looked_at(study, monkeypatch):
    class Odd(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(x) * (1 + (len(x) > 64))

    structure = Prune.structure
    monkeypatch.setattr(Prune, "structure", lambda self, module, example: Odd(structure(self, module, example)))
    del study["attacks"]
    with pytest.raises(Unlawful, match=r"prune: in batches of 65 record \d is answered otherwise"):
        Study.of({**study, "vary": {"compression": ["prune"]}}).plan()
    skipping = Study.of({**study, "vary": {"compression": ["prune"]}, "unlawful": "skip"}).plan()
    assert list(skipping.refused) == ["prune"] and len(skipping.cells) == 1


def test_what_a_model_defence_raises_on_a_users_layers_is_a_refusal(study, monkeypatch):
    def broken(self, module, example):
        raise ZeroDivisionError("no weights")

    monkeypatch.setattr(Prune, "structure", broken)
    with pytest.raises(Unlawful, match="prune cannot be done to this model: ZeroDivisionError: no weights"):
        Study.of({**study, "vary": {"compression": ["prune"]}}).plan()
