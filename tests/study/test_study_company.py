"""A user's module that misbehaves at the size of the test set alone: its own cell fails, and nothing else."""

import json
import sys

import pytest

from consilium import Study

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.layer = how, nn.Linear(30, 2)

    def forward(self, x):
        if len(x) == 114 and not self.training:
            if self.how == "exit":
                raise SystemExit(0)
            if self.how == "interrupt":
                raise KeyboardInterrupt
            if self.how == "mix":
                x = x - x.mean(0, keepdim=True)
        return self.layer(x)
"""
PLACE, SIZE = "odd_company.py", 114


@pytest.fixture
def study(tmp_path, monkeypatch):
    def make(how, **more):
        return Study.of(
            {
                "name": "company",
                "threads": 1,
                "data": {"kind": "breast-cancer", "sites": 2},
                "model": {"kind": "module", "path": "odd_company:Net", "arguments": {"how": how}, "allow-code": True},
                "federation": {"kind": "fed-avg", "rounds": 1, "lr": 0.5},
                **more,
            }
        )

    (tmp_path / PLACE).write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "odd_company", raising=False)
    assert len(make("sound").plan().materials.consortium(0).test) == SIZE
    return make


def cells(results):
    return [json.loads((results.folder / "cells" / c.digest / "evidence.json").read_text()) for c in results.plan.cells]


@pytest.mark.parametrize(("how", "reason"), [("exit", "SystemExit: 0")])
def test_what_is_no_exception_fails_its_cell_by_file_and_line(study, tmp_path, how, reason):
    results = study(how).run(tmp_path / "out", quiet=True)
    (failure,) = results.outcome.failed.values()
    raised = "raise SystemExit(0)"
    line = [text.strip() for text in NET.splitlines()].index(raised) + 1
    assert reason in failure and f"{tmp_path / PLACE}:{line}" in failure
    assert [evidence["status"] for evidence in cells(results)] == ["failed"]


def test_an_answer_that_depends_on_the_batch_of_the_judgement_fails_its_cell(study, tmp_path):
    results = study("mix").run(tmp_path / "out", quiet=True)
    (failure,) = results.outcome.failed.values()
    assert f"depends on the other records of its batch: in batches of {SIZE} test record" in failure
    assert study("sound").run(tmp_path / "out", quiet=True).outcome.failed == {}


def test_a_keyboard_interrupt_still_stops_the_run(study, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        study("interrupt").run(tmp_path / "out", quiet=True)
