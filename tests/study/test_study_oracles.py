"""Foolbox's and torchattacks' PGD, run from outside on a cell of a study, find what its evidence says."""

import copy
import warnings

import pytest
import torch

import consilium

STEPS, RADIUS = 20, 0.1

STUDY = f"""
name = "oracles"
threads = 1
[data]
kind = "digits"
sites = 2
[model]
kind = "cnn"
width = 8
[federation]
kind = "fed-avg"
rounds = 4
local-epochs = 2
lr = 0.1
momentum = 0.9
[vary]
robustness = [{{ kind = "adversarial-training", radius = 0.1, steps = 1 }}]
[[attacks]]
kind = "pgd"
radius = {RADIUS}
steps = {STEPS}
"""


@pytest.fixture(scope="module")
def ran(run_study):
    return run_study(STUDY)


def foolbox_points(model, x, y):
    foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")
    attack = foolbox.attacks.LinfPGD(rel_stepsize=2.5 / STEPS, steps=STEPS, random_start=True)
    return attack(foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=RADIUS)[1]


def torchattacks_points(model, x, y):
    torchattacks = pytest.importorskip("torchattacks", reason="torchattacks is not installed", exc_type=ImportError)
    return torchattacks.PGD(model, eps=RADIUS, alpha=2.5 * RADIUS / STEPS, steps=STEPS)(x, y)


@pytest.mark.parametrize("arm", ["none", "adversarial-training"])
@pytest.mark.parametrize("points", [foolbox_points, torchattacks_points])
def test_they_find_the_same_robust_accuracy(ran, points, arm):
    model, test = consilium.load(ran.cell(arm)), consilium.test_set(ran.cell(arm))
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        crafted = points(copy.deepcopy(model), test.x, test.y).float()
    with torch.no_grad():
        right = (model(test.x).argmax(1) == test.y) & (model(crafted).argmax(1) == test.y)
    finding = ran.cells()[arm, "none", 0]["findings"]["pgd"]
    ours = next(m["value"] for m in finding["measures"] if m["name"] == "robust_accuracy")
    assert abs(ours - float(right.double().mean())) <= 0.02
    assert 0.02 < ours < 0.97


def test_the_study_is_about_something(ran):
    """Adversarial training helps, and a comparison with the wrong arm would fail."""
    ours = {arm: ran.cells()[arm, "none", 0]["findings"]["pgd"]["measures"][0]["value"] for arm, *_ in ran.cells()}
    assert ours["adversarial-training"] > ours["none"] + 0.1
