"""Studies of findings, numbers, masks and times, from file to figures; what has no meaning is refused by name."""

import json

import numpy as np
import pytest
import torch

import consilium
from consilium import Study
from consilium.core.errors import Refused
from consilium.learn.tasks.masks import Masks
from consilium.learn.tasks.multi_label import MultiLabel

RNG = np.random.default_rng(0)
N = 240
X = RNG.random((N, 8)).astype(np.float32)
FINDINGS = np.stack([X[:, :4].mean(1) > 0.5, X[:, 4:].mean(1) > 0.5], 1).astype(int)
TIMES = np.stack([0.2 + 8 * X[:, :4].mean(1), RNG.random(N) < 0.8], 1)
DIAGONAL = np.add.outer(np.arange(8), np.arange(8))[None] > RNG.integers(5, 11, N)[:, None, None]
PICTURES = (0.6 * DIAGONAL + 0.4 * RNG.random((N, 8, 8))).astype(np.float32)
NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, stride=2), nn.InstanceNorm2d(4), nn.ReLU())
        self.up, self.out = nn.ConvTranspose2d(4, 4, 2, stride=2), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        high = self.down(x)
        return self.out(torch.cat([high, self.up(self.deep(high))], 1))
"""
CASES = {
    "multi-label": (X, FINDINGS, "multi-label"),
    "regression": (X, 10 * X[:, :4].mean(1), {"kind": "regression", "low": 0.0, "high": 10.0, "tolerance": 1.0}),
    "masks": (PICTURES, DIAGONAL.astype(int), {"kind": "masks", "threshold": 0.6}),
    "survival": (X, TIMES, {"kind": "survival", "cuts": [2.0, 4.0, 6.0], "horizon": 4.0}),
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    def make(name, **more):
        x, y, task = CASES[name]
        columns = {} if x.ndim > 2 else {"columns": [f"marker-{k}" for k in range(8)]}
        np.savez(tmp_path / "mine.npz", x=x, y=y, units=np.arange(N) // 2, **columns)
        model = {"kind": "module", "path": "task_net:Net", "allow-code": True} if x.ndim > 2 else "logistic"
        return Study.of(
            {
                "name": name,
                "threads": 1,
                "data": {"kind": "npz", "path": str(tmp_path / "mine.npz"), "sites": 2, "task": task, "public": 0.1},
                "model": model,
                "federation": {"kind": "fed-avg", "rounds": 2, "lr": 0.5},
                "vary": {
                    "privacy": [{"kind": "dp-sgd", "epsilon": 8.0, "delta": 1e-3, "unit": "patient"}],
                    "compression": [{"kind": "static-int8"}],
                },
                "attacks": [
                    {"kind": "pgd", "steps": 3, "radius": 0.1},
                    {"kind": "loss-threshold"},
                    {"kind": "label-gap"},
                    {"kind": "one-run-audit"},
                ],
                "audit": {"canaries": 16},
                **more,
            }
        )

    (tmp_path / "task_net.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    return make


@pytest.mark.parametrize("name", CASES)
def test_a_study_runs_from_the_file_to_the_figures_and_is_loaded_again(study, tmp_path, name):
    results = study(name).run(tmp_path / "out", quiet=True)
    assert not results.outcome.failed
    for cell in results.plan.cells:
        folder = results.folder / "cells" / cell.digest
        evidence = json.loads((folder / "evidence.json").read_text())
        figures = {m["name"]: m for m in evidence["utility"]}
        task = results.plan.materials.consortium(0).task
        assert figures[task.score]["value"] is not None and figures["accuracy"]["chance"] is not None
        findings = evidence["findings"]
        assert findings["pgd"]["status"] == findings["loss-threshold"]["status"] == "ok"
        robust = {m["name"]: m for m in findings["pgd"]["measures"]}["robust_accuracy"]
        assert robust["value"] is None or robust["value"] <= figures["accuracy"]["value"]
        test = consilium.test_set(folder)
        with torch.no_grad():
            right = task.right(consilium.load(folder, allow_code=True)(test.x), test.y)
        assert float(right.double().mean()) == pytest.approx(figures["accuracy"]["value"])
        if "dp-sgd" in str(evidence["cell"]["arm"]):
            assert evidence["privacy"]["claims"][0]["unit"] == "patient"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"corruptions": ["label-flip"]}, "label-flip has no meaning for the task multi-label"),
        ({"attacks": [{"kind": "shokri", "shadows": 2}]}, "attacks[0]: shokri has no meaning for the task multi-label"),
        ({"vary": {"a": ["round-answer"]}}, "round-answer has no meaning for the task multi-label"),
        ({"vary": {"d": [{"kind": "label-randomised-response", "epsilon": 2.0}]}}, "has no meaning for the task"),
    ],
)
def test_what_has_no_meaning_for_a_task_is_refused_in_the_plan(study, more, reason):
    with pytest.raises(Refused) as error:
        study("multi-label", **more).plan()
    assert reason in str(error.value)


def test_a_model_that_answers_another_shape_is_refused(study):
    with pytest.raises(Refused, match=r"needs|answers"):
        study("masks", model="logistic").plan()


@pytest.mark.parametrize("task", [MultiLabel(), Masks(threshold=0.6)], ids=["findings", "masks"])
def test_pgd_is_the_loop_written_by_hand(task):
    from consilium.learn.perturbation.goals import Misclassification
    from consilium.learn.perturbation.linf import Linf
    from consilium.learn.perturbation.maximise import maximise
    from consilium.learn.perturbation.task_loss import attack_loss

    torch.manual_seed(0)
    x = torch.rand(20, 1, 6, 6)
    if isinstance(task, Masks):
        model, y = torch.nn.Conv2d(1, 2, 3, padding=1), torch.randint(2, (20, 6, 6))
    else:
        model, y = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3)), torch.randint(2, (20, 3))
    worst = maximise(
        model, x, y, ball=Linf(0.1), steps=5, step_size=0.03, random_start=False, generator=torch.Generator(),
        loss=attack_loss("cross-entropy", task), goal=Misclassification(task),
    )  # fmt: skip
    point = x.clone()
    for _ in range(5):
        leaf = point.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(task.losses(model(leaf), y).sum(), leaf)
        point = (point + 0.03 * slope.sign()).clamp(x - 0.1, x + 0.1).clamp(0, 1)
    torch.testing.assert_close(worst, point, rtol=0, atol=1e-6)
    assert bool((task.losses(model(worst), y) > task.losses(model(x), y)).all())
