"""The four goals: what counts as success, for whom, and which knobs are refused."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.attack.evasion.fgsm import FGSM
from consilium.attack.evasion.pgd import PGD
from consilium.attack.evasion.transfer import Transfer
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.tasks.regression import Regression
from consilium.learn.tasks.single_label import SingleLabel

LOGITS = torch.tensor(
    [[0.60, 0.50, 0.30], [0.60, 0.30, 0.50], [0.60, 0.20, 0.10], [0.20, 0.60, 0.50], [0.50, 0.55, 0.6]]
)
LABELS = torch.tensor([0, 0, 0, 1, 2])


def identity_view(x=LOGITS, y=LABELS):
    """The input is the answer: three numbers, three logits."""
    module = nn.Linear(3, 3, bias=False).requires_grad_(False)
    module.weight.copy_(torch.eye(3))
    return ModelView(3, module, module, Records.of(x, y), task=SingleLabel())


def run(attack, view):
    return attack(view, {}, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [PGD, FGSM])
@pytest.mark.parametrize("radius", [0.02, 0.06, 0.12, 0.3])
def test_targeted_by_hand(kind, radius):
    """In the cube the target gains at most 2 radius on any other class."""
    finding = run(kind(radius=radius, goal="targeted", target=2), identity_view())
    lead = LOGITS[:, 2] - LOGITS[:, :2].amax(1)
    reached = (lead > -2 * radius) & (LABELS != 2)
    assert finding["success_rate"].n == 4 and finding["success_rate"].value == reached.sum() / 4
    assert "goal was the answer 2" in finding.notes[0] and "other 1 of 5" in finding.notes[0]


@pytest.mark.parametrize("kind", [PGD, FGSM])
def test_source_to_target_leaves_the_others(kind):
    finding = run(kind(radius=0.12, goal="source-to-target", source=0, target=2), identity_view())
    assert finding["success_rate"].n == 3 and finding["success_rate"].value == pytest.approx(1 / 3)
    moved = (finding.examples["adversarial"] != finding.examples["clean"]).any(1)
    assert torch.equal(moved, finding.examples["label"] == 0)
    assert "for records of the class 0" in finding.notes[0] and "other 2 of 5" in finding.notes[0]


def test_reduced_confidence_by_hand():
    """The probability of the right class at the corner of the cube, against a threshold."""
    view, radius, level = identity_view(), 0.05, 0.33
    corner = LOGITS + radius * (1 - 2 * nn.functional.one_hot(LABELS, 3))
    expected = corner.softmax(1).gather(1, LABELS[:, None])[:, 0] < level
    assert 0 < expected.sum() < 5
    finding = run(PGD(radius=radius, goal="confidence-reduction", confidence=level), view)
    assert finding["success_rate"].value == expected.sum() / 5
    assert "below 0.33" in finding.notes[0]
    assert run(PGD(radius=radius, goal="confidence-reduction", confidence=0.01), view)["success_rate"].value == 0


def test_a_target_is_harder_than_any_mistake(view):
    """So success rates of different goals are not comparable."""
    any_wrong, one = (run(PGD(radius=0.1, **knobs), view) for knobs in ({}, {"goal": "targeted", "target": 3}))
    assert one["success_rate"].value < any_wrong["success_rate"].value - 0.1
    assert one["success_rate"].n < any_wrong["success_rate"].n
    assert one["robust_accuracy"].value > any_wrong["robust_accuracy"].value and not any_wrong.notes


def test_targeted_is_foolboxs(view):
    foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed")

    target, radius = 3, 0.15
    model = foolbox.PyTorchModel(copy.deepcopy(view.module), bounds=(0, 1), device="cpu")
    criterion = foolbox.criteria.TargetedMisclassification(torch.full_like(view.targets.y, target))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attack = foolbox.attacks.LinfPGD(rel_stepsize=0.125, steps=20)
        crafted = attack(model, view.targets.x, criterion, epsilons=radius)[1]
    with torch.no_grad():
        right = view.module(view.targets.x).argmax(1) == view.targets.y
        rows = right & (view.targets.y != target)
        theirs = (view.module(crafted).argmax(1) == target)[rows].double().mean()
    ours = run(PGD(radius=radius, goal="targeted", target=target), view)["success_rate"]
    assert ours.n == rows.sum() and ours.value == pytest.approx(float(theirs), abs=0.02)
    assert 0.1 < ours.value < 0.95


def test_transfer_takes_the_goal_to_the_source(view, other_network):
    source = replace(view, module=other_network, surrogate=other_network)
    finding = run(Transfer(radius=0.2, goal="targeted", target=3), replace(view, source=source))
    assert finding["success_rate"].value > 0.1 and "answer 3" in finding.notes[0]


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"goal": "targeted"}, "needs a target class"),
        ({"goal": "source-to-target", "target": 1}, "needs a source class"),
        ({"goal": "source-to-target", "target": 1, "source": 1}, "class other than the target"),
        ({"goal": "targeted", "target": -1}, "out of range"),
        ({"goal": "targeted", "target": 1, "source": 2}, "source = 2 does nothing"),
        ({"target": 1}, "target = 1 does nothing where goal = 'misclassification'"),
        ({"confidence": 0.3}, "confidence = 0.3 does nothing"),
        ({"goal": "confidence-reduction", "confidence": 0.0}, "out of range"),
        ({"goal": "confidence-reduction", "target": 1}, "target = 1 does nothing"),
        ({"goal": "fun"}, "cannot pursue the goal 'fun'"),
    ],
)
@pytest.mark.parametrize("kind", [PGD, FGSM, Transfer])
def test_a_goal_without_its_knobs_is_refused(kind, knobs, said):
    with pytest.raises(Refused, match=said):
        kind(**knobs)


def test_a_class_that_the_data_lack_is_refused():
    for attack in (PGD(goal="targeted", target=3), PGD(goal="source-to-target", source=7, target=0)):
        with pytest.raises(Refused, match="and the data have 3"):
            attack.check_fit((3,), 3)
        with pytest.raises(Refused, match="and the data have 3"):
            run(attack, identity_view())


def test_goals_of_classes_are_refused_without_classes():
    PGD().check_task(Regression(low=0, high=1, tolerance=0.1))
    for knobs in ({"goal": "targeted", "target": 0}, {"goal": "confidence-reduction"}):
        with pytest.raises(Refused, match="is of classes"):
            PGD(**knobs).check_task(Regression(low=0, high=1, tolerance=0.1))


def test_the_digest_of_an_older_study_stands():
    assert PGD().configuration().keys() == {
        "kind", "radius", "steps", "step-size", "norm", "restarts", "random-start", "loss",
    }  # fmt: skip
    assert PGD(goal="targeted", target=0).configuration()["target"] == 0
