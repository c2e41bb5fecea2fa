"""What every evasion attack shares: the whole test set, the budget, the verdict of the released model."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from consilium.attack.evasion._evasion import Evasion
from consilium.attack.evasion.fgsm import FGSM
from consilium.attack.evasion.pgd import PGD
from consilium.core.errors import Failed, Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView, ThreatModel, View
from consilium.learn.tasks.single_label import SingleLabel
from consilium.measure.robustness import robust_accuracy


@dataclass(frozen=True)
class Shift(Evasion):
    """Adds a constant."""

    threat: ClassVar[ThreatModel] = ThreatModel("receiver", "inference", "white-box", "evasion")

    radius: float = 0.1
    norm: str = "linf"
    by: float = 0.1

    def craft(self, view, x, y, generator):
        return x + self.by


class Threshold(nn.Module):
    """Class 1 where the mean pixel is above one half."""

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        return torch.stack([torch.zeros_like(mean), 10 * (mean - 0.5)], 1)


def small_view(values=(0.1, 0.45, 0.48, 0.6, 0.3), labels=(0, 0, 0, 1, 1), **changes):
    """Five flat images: the last is wrong as it is; the second and third cross one half when shifted by .1."""
    x = torch.tensor(values)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()
    module = Threshold()
    view = ModelView(2, module, module, Records.of(x, torch.tensor(labels)), task=SingleLabel())
    return replace(view, **changes)


def run(attack, view, seed=0):
    return attack(view, {}, torch.Generator().manual_seed(seed))


def test_the_figures_by_hand():
    finding = run(Shift(), small_view())
    assert finding.scores["correct_before"].tolist() == [True, True, True, True, False]
    assert finding.scores["correct"].tolist() == [True, False, False, True, False]
    assert [m.name for m in finding.measures] == [
        "robust_accuracy", "balanced_robust_accuracy", "success_rate", "mean_linf", "mean_l2",
    ]  # fmt: skip
    assert [m.value for m in finding.measures] == pytest.approx([0.4, (1 / 3 + 1 / 2) / 2, 0.5, 0.1, 0.2])
    assert [m.n for m in finding.measures] == [5, 5, 4, 4, 4]
    assert finding["success_rate"].low < 0.5 < finding["success_rate"].high


def test_a_record_that_is_wrong_before_is_never_robust():
    """The shift makes the last image right: it was wrong without an attack and stays counted as such."""
    view = small_view(values=(0.45,), labels=(1,))
    assert view.module(view.targets.x + 0.1).argmax(1).tolist() == [1]
    finding = run(Shift(), view)
    assert finding["robust_accuracy"].value == 0
    assert finding["success_rate"].value is None and finding["mean_linf"].reason


def test_examples_show_successes_first():
    shown = run(Shift(), small_view()).examples
    assert shown["label"].tolist() == [0, 0, 0, 1, 1]
    assert shown["answer_before"].tolist() == [0, 0, 0, 1, 0] and shown["answer_after"].tolist() == [1, 1, 0, 1, 0]
    assert torch.allclose(shown["adversarial"], shown["clean"] + 0.1)


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (Shift(by=0.11), "linf size 0.11 of 0.1"),
        (Shift(norm="l2"), "l2 size 0.2 of 0.1"),
        (Shift(radius=1, by=-0.2), "values from -0.1"),
        (Shift(radius=1, by=0.5), "to 1.1"),
        (Shift(by=float("nan")), "no finite inputs"),
    ],
)
def test_a_broken_budget_fails(attack, said):
    with pytest.raises(Failed, match=said):
        run(attack, small_view())


def test_a_wrong_shape_fails():
    with pytest.raises(Failed, match="of shape"):
        run(type("Cut", (Shift,), {"craft": lambda self, view, x, y, g: x[1:]})(), small_view())


def test_the_whole_test_set_is_attacked(view):
    """397 records: two batches, the last one short."""
    finding = run(FGSM(), view)
    assert finding["robust_accuracy"].n == len(view.targets) == 397 == len(finding.scores["correct"])


def test_the_verdict_is_the_released_models(view):
    """The surrogate's answers count for nothing: here it is always right, the released model always wrong."""

    class Wrong(nn.Module):
        def forward(self, x):
            return -view.module(x)

    finding = run(FGSM(), replace(view, module=Wrong()))
    assert finding["robust_accuracy"].value < 0.05


def test_without_a_surrogate_nothing_is_claimed(view):
    finding = run(FGSM(), replace(view, surrogate=None))
    assert all(m.value is None and m.reason.startswith("not adaptively evaluated") for m in finding.measures)
    assert finding.notes and not finding.scores


def test_no_records_are_refused(view):
    with pytest.raises(Refused, match="no test records"):
        run(FGSM(), replace(view, targets=view.targets.select(torch.arange(0))))


def test_a_view_without_the_model_is_refused():
    with pytest.raises(Refused, match="attack test-evasion needs a ModelView and was granted a View"):
        run(Shift(), View(2, task=SingleLabel()))


def test_worst_case_agrees_with_the_masks(view):
    finding = run(FGSM(), view)
    assert finding.measures[:2] == robust_accuracy(finding.scores["correct"], view.targets.y)


class Rounded(nn.Module):
    """A threshold that is flat where the mean is below ``flat``."""

    def __init__(self, flat):
        super().__init__()
        self.flat = flat

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        mean = torch.where(mean < self.flat, mean.detach() + 0 * mean, mean)
        return torch.stack([torch.zeros_like(mean), 10 * (mean - 0.5)], 1)


@pytest.mark.parametrize("attack", [FGSM(radius=0.01), PGD(radius=0.01, steps=2), PGD(radius=0.01, loss="margin")])
def test_a_gradient_of_zero_is_no_robustness(attack):
    few, most = (Rounded(flat) for flat in (0.2, 0.5))
    clean = run(attack, small_view())
    assert clean.notes == ()
    told = run(attack, small_view(module=few, surrogate=few))
    assert told["robust_accuracy"].value == clean["robust_accuracy"].value
    assert "exactly zero for 1 of 4 records" in told.notes[0] and "adaptive" not in told.notes[0]
    blind = run(attack, small_view(module=most, surrogate=most))
    assert all(m.value is None and m.reason.startswith("not adaptively evaluated") for m in blind.measures)
    assert "exactly zero for 3 of 4 records" in blind.notes[0] and blind.scores["correct"].sum() == 4
