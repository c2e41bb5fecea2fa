"""The masking report: a sound model passes, known ways of hiding gradients are flagged."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.attack.evasion._masking import CHECKS, MaskingCheck
from consilium.attack.evasion.apgd import APGD
from consilium.attack.evasion.masking_report import MaskingReport
from consilium.attack.evasion.pgd import PGD
from consilium.core.errors import Refused
from consilium.core.random import Stream, scoped
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.tasks.masks import Masks
from consilium.learn.tasks.single_label import SingleLabel

ATTACK = MaskingReport(radius=0.1, queries=200, records=96)


def flagged(view, module):
    few = replace(view, module=module, surrogate=module, targets=view.targets.select(torch.arange(96)))
    finding = ATTACK(few, {}, torch.Generator().manual_seed(0))
    head = "Red flag: masking, "
    return {note.removeprefix(head).split(":")[0] for note in finding.notes if note.startswith(head)}, finding


class Scaled(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return 100 * self.inner(x)


class Shattered(nn.Module):
    """Inputs in steps of a quarter: a gradient that is zero wherever there is one."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner((4 * x).round() / 4 + 0 * x)


class Constant(nn.Module):
    """Class 0 whatever is asked, with a gradient that says nothing of it."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        rest = x.flatten(1).mean(1) * 1e-3 * self.scale
        return torch.stack([rest + 1, rest / 2, rest / 3], 1)


def test_a_sound_model_has_no_flag(view):
    flags, finding = flagged(view, view.module)
    assert not flags and len(finding.notes) == len(CHECKS)
    assert all(finding[f"masking_{name}"].value <= 0.011 for name in CHECKS)


def test_sharp_logits_are_flagged(view):
    """Logits x 100 decide as before; the loss is flat, and smaller logits fool many more."""
    flags, finding = flagged(view, Scaled(view.module))
    assert {"loss", "scaling", "zero gradients"} <= flags and "unbounded" not in flags
    assert finding["masking_zero_gradients"].value > 0.5
    assert finding.notes[0].startswith("Red flag: ")


def fitted(records, activation, temperature=1.0, targets=None, seed=0, rate=0.02):
    """A small network trained at a temperature and asked without one, as distilled networks are."""
    with scoped(Stream(seed)):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), activation(), nn.Linear(32, 10))
    optimiser = torch.optim.Adam(network.parameters(), rate)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(
            network(records.x) / temperature, records.y if targets is None else targets
        ).backward()
        optimiser.step()
    optimiser.zero_grad()
    return network.eval()


def robust(view, module, attack):
    few = replace(view, module=module, surrogate=module, targets=view.targets.select(torch.arange(96)))
    return attack(few, {}, torch.Generator().manual_seed(0)).scores["correct"].double().mean().item()


def test_a_distilled_network_is_flagged_and_broken(view, digits):
    """Papernot's defensive distillation at temperature 50: its logits are huge, and the cross-entropy is flat."""
    teacher = fitted(digits[0], nn.ReLU, 50.0)
    with torch.no_grad():
        soft = (teacher(digits[0].x) / 50).softmax(1)
    student = fitted(digits[0], nn.ReLU, 50.0, soft, seed=1)
    flags, finding = flagged(view, student)
    assert {"loss", "scaling", "zero gradients"} <= flags
    crossed = robust(view, student, PGD(radius=0.1))
    assert crossed > 0.5  # how robust it seems
    assert finding["robust_accuracy"].value < crossed - 0.15
    assert robust(view, student, APGD(radius=0.1, steps=20, loss="dlr")) < crossed - 0.15


class Shrunk(nn.Module):
    def __init__(self, inner, factor):
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x):
        return self.factor * self.inner(x)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, set()), (1e-3, {"scaling"}), (1e-8, {"scaling", "loss"})])
def test_tiny_logits_are_flagged_and_broken(view, digits, factor, expected):
    """A tanh network clipped as under DP answers with small logits: the cross-entropy then leads away from the right
    class and not towards the nearest other one, and what withstands it falls to the margin."""
    whole = fitted(digits[0], nn.Tanh, rate=0.003)
    module = Shrunk(whole, factor)
    flags, finding = flagged(view, module)
    assert flags & {"scaling", "loss"} == expected
    crossed = robust(view, module, PGD(radius=0.1))
    assert (crossed > finding["robust_accuracy"].value + 0.05) is (factor < 1)
    assert finding["robust_accuracy"].value == pytest.approx(
        robust(view, whole, APGD(radius=0.1, loss="margin")), abs=0.04
    )


def test_shattered_gradients_are_flagged(view):
    flags, _ = flagged(view, Shattered(view.module))
    assert {"unbounded", "black box", "loss", "zero gradients"} <= flags


def test_what_no_attack_can_break_is_flagged():
    """A constant answer withstands every perturbation, which is no robustness."""
    x, y = torch.rand(20, 5, generator=torch.Generator().manual_seed(0)), torch.zeros(20, dtype=torch.long)
    module = Constant()
    view = ModelView(3, module, module, Records.of(x, y), task=SingleLabel())
    finding = ATTACK(view, {}, torch.Generator().manual_seed(0))
    assert finding["masking_unbounded"].value == 1 and "Red flag: masking, unbounded" in finding.notes[0]


def test_without_a_right_answer_nothing_is_checked():
    module = Constant()
    view = ModelView(3, module, module, Records.of(torch.rand(4, 5), torch.ones(4).long()), task=SingleLabel())
    finding = ATTACK(view, {}, torch.Generator().manual_seed(0))
    assert all(finding[f"masking_{name}"].value is None for name in CHECKS)


@pytest.mark.parametrize(("count", "n", "passed"), [(1, 20, True), (2, 20, False), (3, 300, True), (4, 300, False)])
def test_one_record_or_one_per_cent_may_fail(count, n, passed):
    one = MaskingCheck("loss", torch.arange(n) < count, torch.arange(n), "x")
    assert one.passed is passed and one.note().startswith("Red flag: ") is not passed
    assert one.measure().value == count / n


def test_what_has_no_classes_is_refused():
    with pytest.raises(Refused, match="no meaning for the task masks"):
        MaskingReport().check_task(Masks(threshold=0.5))
    for knobs in ({"queries": 0}, {"records": 0}, {"steps": 0}, {"radius": 0.0}):
        with pytest.raises(Refused, match="out of range"):
            MaskingReport(**knobs)
