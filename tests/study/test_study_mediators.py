"""Calibration and mediators of real cells: they agree with figures made anew from the stored model and records."""

import json

import pytest
import torch
from torch.nn.functional import cross_entropy

import consilium
from consilium import Study
from consilium.core.random import Stream
from consilium.measure.mediators import MEDIATORS
from consilium.study.evaluate.views import candidates

TABLE = {
    "name": "mediated",
    "data": {"kind": "digits", "sites": 2},
    "model": {"kind": "mlp", "hidden": 32},
    "federation": {"kind": "fed-avg", "rounds": 3, "lr": 0.5},
    "vary": {
        "compression": ["static-int8"],
        "robustness": [{"kind": "adversarial-training", "radius": 0.03, "steps": 1}],
        "privacy": [{"kind": "dp-sgd", "noise-multiplier": 1.0, "delta": 1e-3}],
        "answers": ["round-answer"],
    },
    "threads": 1,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Study.of(TABLE).run(tmp_path_factory.mktemp("out"), quiet=True)


def cells(run):
    for cell in run.plan.cells:
        folder = run.folder / "cells" / cell.digest
        yield cell, folder, json.loads((folder / "evidence.json").read_text(encoding="utf-8"))


def test_every_arm_has_them_as_its_own_answers_give_them(run):
    seen = 0
    for cell, folder, evidence in cells(run):
        model, test = consilium.load(folder), consilium.test_set(folder)
        p = torch.softmax(model(test.x).double(), 1)
        utility = {m["name"]: m for m in evidence["utility"]}
        brier = (p - torch.eye(10)[test.y]).square().sum(1).mean()
        assert utility["brier_score"]["value"] == pytest.approx(float(brier), rel=1e-4)
        top, place = p.max(1), (p.max(1).values * 15).ceil().long() - 1
        apart = (top.indices == test.y).double() - top.values
        error = sum(float(apart[place == b].sum().abs()) for b in range(15)) / len(test)
        made = utility["expected_calibration_error"]
        assert made["value"] == pytest.approx(error, abs=2e-3) and 0 < made["chance"] < 0.2
        assert made["low"] <= made["value"] <= made["high"] and made["n"] == len(test)
        records, member, _ = candidates(
            run.plan.materials.consortium(0), ("site-0", "site-1"), Stream(0).child("candidates")
        )
        loss = cross_entropy(model(records.x).double(), records.y, reduction="none")
        found = {m["name"]: m for m in evidence["mediators"]}
        assert tuple(found) == MEDIATORS
        gap = float(loss[~member].mean() - loss[member].mean())
        assert found["generalisation_gap_loss"]["value"] == pytest.approx(gap, abs=1e-4)
        assert found["loss_members"]["n"] == int(member.sum()) and cell.seed == 0
        seen += 1
    assert seen == 16


def test_evidence_without_mediators_is_judged_again_and_nothing_is_trained(run):
    first = next(cells(run))[1] / "evidence.json"
    before = json.loads(first.read_text(encoding="utf-8"))
    first.write_text(json.dumps({k: v for k, v in before.items() if k not in ("mediators", "seal", "sealed")}))
    again = Study.of(TABLE).run(run.folder.parent, quiet=True)
    assert again.outcome.trained == 0 and not again.outcome.failed
    after = json.loads(first.read_text(encoding="utf-8"))
    assert after["mediators"] == before["mediators"] and after["utility"] == before["utility"]
