"""PGD: order of strength, restarts, and gradients through what has none."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.attack.evasion.fgsm import FGSM
from consilium.attack.evasion.pgd import PGD
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.linf import Linf
from consilium.learn.perturbation.losses import CrossEntropyLoss
from consilium.learn.perturbation.maximise import maximise
from consilium.learn.tasks.single_label import SingleLabel


def robust(attack, view, seed=0):
    return attack(view, {}, torch.Generator().manual_seed(seed))["robust_accuracy"].value


class Rounded(nn.Module):
    """Answers confidences with one decimal: no gradient."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return torch.softmax(self.inner(x), 1).round(decimals=1).detach().log()


def test_order_of_strength(view):
    """Clean > FGSM > PGD, and a larger radius is worse: by far more than an image or two."""
    clean = robust(PGD(radius=1e-9), view)
    fgsm, pgd, wide = robust(FGSM(radius=0.1), view), robust(PGD(radius=0.1), view), robust(PGD(radius=0.2), view)
    assert clean > 0.95 and clean > fgsm + 0.1 and fgsm >= pgd and pgd > wide + 0.1


def test_no_radius_no_effect(view):
    finding = PGD(radius=1e-12)(view, {}, torch.Generator().manual_seed(0))  # 0 is refused
    assert torch.equal(finding.scores["correct"], finding.scores["correct_before"])
    assert finding["success_rate"].value == 0 and finding["mean_linf"].value <= 1e-12


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_restarts_are_the_worst_case_per_image(view, norm):
    """With one weak step a restart finds other images; what the first found stays found."""
    weak = PGD(radius=0.1 if norm == "linf" else 0.5, steps=1, norm=norm)
    few = weak(view, {}, torch.Generator().manual_seed(0)).scores["correct"]
    many = replace(weak, restarts=6)(view, {}, torch.Generator().manual_seed(0)).scores["correct"]
    first_batch = slice(0, 256)  # from the second batch on the generator has moved on
    assert not (many & ~few)[first_batch].any()
    assert many.sum() < few.sum()


def test_rounded_answers_are_attacked_through_the_surrogate(view):
    """Without it nothing can be followed; with it rounding buys next to nothing."""
    rounded = replace(view, module=Rounded(view.module))
    with pytest.raises(Refused, match="without gradients"):
        robust(PGD(), replace(rounded, surrogate=rounded.module))
    assert robust(PGD(radius=0.1), rounded) == pytest.approx(robust(PGD(radius=0.1), view), abs=0.02)


class Above(nn.Module):
    """Class 1 where the mean pixel is above a level."""

    def __init__(self, level):
        super().__init__()
        self.level = level

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        return torch.stack([torch.zeros_like(mean), 10 * (mean - self.level)], 1)


def test_the_released_model_judges_who_stops():
    """The surrogate gives way at .5, the released model at .55: whoever stops at the first has not won."""
    targets = Records.of(torch.full((4, 1, 2, 2), 0.45), torch.zeros(4, dtype=torch.long))
    view = ModelView(2, Above(0.55), Above(0.5), targets, task=SingleLabel())
    assert robust(PGD(radius=0.12), view) == 0
    short = maximise(
        view.surrogate, targets.x, targets.y, ball=Linf(0.12), steps=20, step_size=0.015, random_start=False,
        generator=torch.Generator(), until=view.surrogate, loss=CrossEntropyLoss(),
        goal=Misclassification(SingleLabel()),
    )  # fmt: skip
    assert not view.module(short).argmax(1).any()


@pytest.mark.parametrize(
    "knobs",
    [
        {"radius": -0.1}, {"steps": 0}, {"step_size": 0.0}, {"step_size": -1.0}, {"restarts": 0},
        {"restarts": 2, "random_start": False},
    ],
)  # fmt: skip
def test_a_knob_out_of_range_is_refused_by_name(knobs):
    with pytest.raises(Refused, match="out of range"):
        PGD(**knobs)


def test_fgsm_takes_its_step(view):
    finding = FGSM(radius=0.05)(view, {}, torch.Generator().manual_seed(0))
    moved = (finding.examples["adversarial"] - finding.examples["clean"]).abs()
    assert moved.max() == pytest.approx(0.05, abs=1e-6)
    with pytest.raises(Refused):
        FGSM(radius=-1)


class Sure(nn.Module):
    """A model so sure of itself that the cross-entropy has no gradient left in float32."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return 1000 * self.inner(x)


def test_the_margin_sees_through_sharp_logits(view):
    """The cross-entropy of logits x 1000 is flat, so PGD on it finds little; the margin finds what it found before."""
    margin = PGD(radius=0.1, loss="margin")
    sharp = replace(view, module=Sure(view.module), surrogate=Sure(view.module))
    assert robust(margin, sharp) == pytest.approx(robust(margin, view), abs=0.01)
    flat = PGD(radius=0.1)(sharp, {}, torch.Generator().manual_seed(0))
    assert float(flat.scores["correct"].float().mean()) > robust(margin, sharp) + 0.1
    assert flat["robust_accuracy"].value is None and "not adaptively evaluated" in flat["robust_accuracy"].reason


def test_two_losses_break_images_that_one_does_not(view):
    """Their worst case per image is below either: why the quickstart has both."""
    knobs = {"radius": 0.1, "steps": 20, "restarts": 2}
    crossed, margin = (
        PGD(**knobs, loss=loss)(view, {}, torch.Generator().manual_seed(0)).scores["correct"]
        for loss in ("cross-entropy", "margin")
    )
    assert (crossed & margin).sum() <= min(crossed.sum(), margin.sum())
    assert margin.double().mean() == pytest.approx(crossed.double().mean().item(), abs=0.05)
