"""The masking report: a sound model passes, known ways of hiding gradients are flagged."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.attack.evasion._masking import CHECKS, MaskingCheck
from consilium.attack.evasion.masking_report import MaskingReport
from consilium.core.errors import Refused
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
