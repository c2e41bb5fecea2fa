"""AutoAttack: what a part leaves the next one gets, few classes, and what speaks against a figure."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from consilium.attack.evasion._evasion import Evasion
from consilium.attack.evasion.apgd import APGD
from consilium.attack.evasion.auto_attack import AutoAttack
from consilium.attack.evasion.pgd import PGD
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView, ThreatModel
from consilium.learn.tasks.masks import Masks
from consilium.learn.tasks.single_label import SingleLabel

QUICK = {"steps": 15, "queries": 60}


def run(attack, view, seed=0):
    return attack(view, {}, torch.Generator().manual_seed(seed))


def first(view, n=64):
    return replace(view, targets=view.targets.select(torch.arange(n)))


def test_it_leaves_what_pyautoattack_leaves(view):
    """pyautoattack 0.2.0, standard, seed 0: of the first 64 test digits .4375 withstand linf .1 (62 right before)."""
    finding = run(AutoAttack(radius=0.1, queries=100), first(view))
    assert finding["robust_accuracy"].value == pytest.approx(0.4375, abs=1 / 64)
    assert finding.notes[0].startswith("Of 64 records 62 were answered rightly, 28 after apgd-ce")


def test_in_l1_it_leaves_what_pyautoattack_leaves(view):
    """pyautoattack 0.2.0, standard in L1 with 500 queries, seed 0: .375 of the first 64 digits withstand 1.5."""
    attack = AutoAttack(radius=1.5, norm="l1", steps=30, queries=20)
    assert run(attack, first(view))["robust_accuracy"].value == pytest.approx(0.375, abs=1 / 64)
    parts = attack.parts()
    assert (parts["apgd-ce"].restarts, parts["apgd-t"].targets, parts["fab-t"].targets) == (5, 5, 9)


def test_it_is_the_worst_case_of_its_parts(view):
    """Nobody whom a part fools alone is left; the number of the part that fooled a record is in the scores."""
    few, attack = first(view), AutoAttack(radius=0.1, **QUICK)
    finding = run(attack, few)
    left, fooled_by = finding.scores["correct"], finding.scores["fooled_by"]
    for part in attack.parts().values():
        alone = run(part, few).scores["correct"]
        assert int((left & ~alone).sum()) <= 1
    before = finding.scores["correct_before"]
    assert torch.equal(fooled_by > 0, before & ~left) and bool((fooled_by == 1).any())


@dataclass(frozen=True)
class Corner(Evasion):
    """Raises every feature of the records whose first feature is above a level; counts what it was given."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")
    seen: ClassVar[list[int]] = []

    radius: float = 0.2
    norm: str = "linf"
    level: float = 0.0

    def craft(self, view, x, y, generator):
        self.seen.append(len(x))
        return torch.where((x[:, :1] > self.level), x + self.radius, x).clamp(0, 1)


class Mean(nn.Module):
    """Class 1 where the mean is above one half."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        zero = torch.zeros_like(mean)
        return torch.stack([zero, 10 * self.scale * (mean - 0.5), zero - 9, zero - 9], 1)


def test_survivors_alone_go_on():
    """Five records: one wrong before, two fall to the first part, one to the second, one to none."""

    @dataclass(frozen=True)
    class Two(AutoAttack):
        def parts(self):
            return {"a": Corner(level=0.42), "b": Corner(level=0.32)}

    x = torch.tensor([0.45, 0.44, 0.35, 0.1, 0.4])[:, None].expand(-1, 3).contiguous()
    module = Mean()
    view = ModelView(4, module, module, Records.of(x, torch.tensor([0, 0, 0, 0, 1])), task=SingleLabel())
    Corner.seen.clear()
    finding = run(Two(radius=0.2), view)
    assert Corner.seen == [4, 2]
    assert finding.scores["fooled_by"].tolist() == [1, 1, 2, 0, 0]
    assert finding.scores["correct"].tolist() == [False, False, False, True, False]
    assert finding.notes[0] == "Of 5 records 4 were answered rightly, 2 after a, 1 after b."


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes(classes):
    """On a linear model the answer is known: who falls has a lead below radius times the L1 norm of the difference."""
    g, radius = torch.Generator().manual_seed(classes), 0.05
    module = nn.Linear(6, classes)
    with torch.no_grad():
        module.weight.copy_(torch.randn(classes, 6, generator=g))
        module.bias.copy_(-module.weight.sum(1) / 2)
        x = radius + (1 - 2 * radius) * torch.rand(60, 6, generator=g)
        y = module(x).argmax(1)
        reach = radius * (module.weight[None] - module.weight[y][:, None]).abs().sum(2)
        lead = module(x).gather(1, y[:, None]) - module(x)
        stands = (lead > reach).scatter(1, y[:, None], True).all(1)
    view = ModelView(classes, module, module, Records.of(x, y), task=SingleLabel())
    attack = AutoAttack(radius=radius, steps=20, queries=30)
    finding = run(attack, view)
    assert torch.equal(finding.scores["correct"], stands) and 3 < stands.sum() < 57
    said = [note for note in finding.notes if "climbs the margin" in note]
    assert len(said) == (classes < 4) and bool(attack.describe(["a"] * classes)) == (classes < 4)
    assert all(f"{classes} classes" in note for note in said)


class Randomised(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.generator = inner, torch.Generator().manual_seed(0)

    def forward(self, x):
        logits = self.inner(x)
        return logits + 0.1 * torch.randn(logits.shape, generator=self.generator)


class Confident(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x).softmax(1)


class Shattered(nn.Module):
    """Inputs in steps of a quarter: a gradient that is zero wherever there is one."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner((4 * x).round() / 4 + 0 * x)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (Randomised, "answers to the same inputs differ"),
        (Confident, "they are probabilities"),
        (Shattered, "gradient is exactly zero for 48 of 48"),
    ],
)
def test_what_speaks_against_the_figure_is_noted(view, spoilt, said):
    module = spoilt(view.module)
    notes = run(AutoAttack(radius=0.1, **QUICK), replace(first(view, 48), module=module, surrogate=module)).notes
    assert [note for note in notes if note.startswith("Red flag: ") and said in note]


def test_answers_that_beat_gradients_are_noted(view):
    module = Shattered(view.module)
    few = replace(first(view, 48), module=module, surrogate=module)
    notes = run(AutoAttack(radius=0.2, steps=2, targets=1, queries=400), few).notes
    assert [note for note in notes if note.startswith("Red flag: square fooled") and "masked" in note]


def test_a_sound_model_has_no_flags(view):
    assert not [note for note in run(AutoAttack(radius=0.1, **QUICK), first(view)).notes if "Red flag" in note]


def test_it_is_stronger_than_pgd_alone(view):
    few = first(view, 128)
    assert (
        run(AutoAttack(radius=0.1, steps=40, queries=20), few)["robust_accuracy"].value
        <= run(PGD(radius=0.1, steps=40), few)["robust_accuracy"].value
    )


def test_what_makes_no_sense_is_refused():
    with pytest.raises(Refused, match="no meaning for the task masks"):
        AutoAttack().check_task(Masks(threshold=0.5))
    with pytest.raises(Refused, match="cannot pursue the goal 'targeted'"):
        AutoAttack(goal="targeted", target=1)
    for knobs in ({"queries": 0}, {"steps": 0}, {"targets": 0}, {"radius": -1.0}):
        with pytest.raises(Refused, match="out of range"):
            AutoAttack(**knobs)


def test_its_parts_take_its_knobs():
    parts = AutoAttack(radius=0.2, norm="l2", steps=7, targets=3, queries=11).parts()
    assert list(parts) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert all(part.radius == 0.2 and part.norm == "l2" for part in parts.values())
    assert parts["apgd-ce"] == APGD(radius=0.2, norm="l2", steps=7)
    assert (parts["apgd-t"].targets, parts["fab-t"].targets, parts["square"].queries) == (3, 3, 11)
