"""Minimum-norm attacks where the distance is known: linear models, whose nearest boundary is a plane."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.attack.evasion.carlini_wagner import CarliniWagner
from consilium.attack.evasion.ddn import DDN
from consilium.attack.evasion.deepfool import DeepFool
from consilium.attack.evasion.fab import FAB
from consilium.attack.evasion.fmn import FMN
from consilium.core.errors import Refused
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.regression import Regression
from consilium.learn.tasks.single_label import SingleLabel

DUAL = {"linf": 1, "l2": 2, "l1": math.inf}


class Sparse(nn.Module):
    """Logits linear in 8 features; ``scale`` multiplies all of them."""

    def __init__(self, scale=1.0, classes=4):
        super().__init__()
        g = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(scale * torch.randn(classes, 8, generator=g))
        self.bias = nn.Parameter(-(self.weight.detach() @ torch.full((8,), 0.5)))

    def forward(self, x):
        return x.flatten(1) @ self.weight.T + self.bias


def view_of(module=None, n=30, **changes):
    """Records near the middle of the cube, where no bound is in the way, each of the class that it is given."""
    module = Sparse() if module is None else module
    g = torch.Generator().manual_seed(0)
    x = 0.5 + 0.4 * (torch.rand(n, 1, 2, 4, generator=g) - 0.5)
    targets = Records.of(x, module(x).argmax(1))
    return replace(ModelView(len(module.bias), module, module, targets, task=SingleLabel()), **changes)


def run(attack, view, seed=0):
    return attack(view, {}, torch.Generator().manual_seed(seed))


def planes(view, norm, targets=None):
    """The distance of each record to the nearest plane: min_k (z_y - z_k) / |w_k - w_y|_q, or to that of a target."""
    w, z, y = view.module.weight.detach(), view.module(view.targets.x).detach(), view.targets.y
    distances = torch.full(z.shape, math.inf)
    for k in range(z.shape[1]):
        slopes = torch.linalg.vector_norm(w[k] - w[y], ord=DUAL[norm], dim=1)
        distances[:, k] = torch.where(y == k, math.inf, (z.gather(1, y[:, None])[:, 0] - z[:, k]) / slopes)
    return distances.amin(1) if targets is None else distances.gather(1, targets[:, None])[:, 0]


ATTACKS = [
    (DeepFool(), 5e-3), (DeepFool(norm="linf"), 5e-3), (DDN(), 0.2), (FMN(norm="l2"), 0.02), (FMN(), 0.05),
    (FMN(norm="l1"), 0.02), (FAB(), 5e-3), (FAB(norm="l2"), 5e-3), (FAB(norm="l1"), 5e-3),
    (CarliniWagner(rate=0.01), 0.03), (CarliniWagner(norm="linf"), 0.15),
]  # fmt: skip


"""What follows one class at a time ends at the nearest plane; what follows a mixture of all may end at the next."""


def name(attack):
    return f"{attack.kind()}-{attack.norm}"


@pytest.mark.parametrize(("attack", "tolerance"), ATTACKS, ids=lambda v: name(v) if hasattr(v, "kind") else "")
def test_the_distance_to_the_nearest_plane(attack, tolerance):
    view = view_of()
    finding = run(attack, view)
    exact = planes(view, attack.norm)
    ratio = finding.scores["distance"] / exact
    assert ratio.min() > 1 - 1e-4, "nearer than the plane"
    assert float((finding.scores["distance"] - exact).mean() / exact.mean()) < tolerance
    assert finding["share_fooled"].value == 1 and finding["share_fooled"].n == 30
    assert finding["mean_distance"].value == pytest.approx(float(finding.scores["distance"].mean()), rel=1e-6)
    assert finding["median_distance"].low <= finding["median_distance"].value <= finding["median_distance"].high


@pytest.mark.parametrize(("attack", "tolerance"), ATTACKS, ids=lambda v: name(v) if hasattr(v, "kind") else "")
def test_success_is_a_distance_within_the_radius(attack, tolerance):
    """One run gives robust accuracy at any radius: here at the median distance."""
    view = view_of()
    median = float(planes(view, attack.norm).median()) * (1 + 2 * tolerance)
    finding = run(replace(attack, radius=median), view)
    assert torch.equal(finding.scores["correct"], finding.scores["distance"] > median + 1e-6)
    assert 0.2 < finding["robust_accuracy"].value < 0.7
    assert finding["success_rate"].value == pytest.approx(1 - finding["robust_accuracy"].value)


def test_the_comparison_can_fail():
    """One step of one plane, and no search: an overshoot of half the way is seen in the distance."""
    view = view_of()
    distances = run(DeepFool(overshoot=0.5, halvings=0), view).scores["distance"]
    assert float(distances.mean() / planes(view, "l2").mean()) > 1.3


@pytest.mark.parametrize("attack", [CarliniWagner(norm="l0", radius=3.0), FMN(norm="l0", radius=3.0)], ids=name)
def test_the_fewest_features(attack):
    """With two classes the features of largest |w| x room go first, until their sum passes the margin."""
    view = view_of(Sparse(classes=2))
    w = (view.module.weight[1] - view.module.weight[0]).detach()
    z, y, x = view.module(view.targets.x).detach(), view.targets.y, view.targets.x.flatten(1)
    direction = torch.where(y == 0, 1, -1)[:, None] * w.sign()
    gains = (w.abs() * torch.where(direction > 0, 1 - x, x)).sort(1, descending=True).values.cumsum(1)
    fewest = 1 + (gains <= (z[:, 1] - z[:, 0]).abs()[:, None]).sum(1)
    distances = run(attack, view).scores["distance"]
    assert (distances >= fewest).all() and distances.mean() <= fewest.double().mean() + 0.2


@pytest.mark.parametrize(
    "attack", [DeepFool(), DDN(), FMN(norm="l2"), FAB(norm="l2"), CarliniWagner()], ids=name
)  # fmt: skip
def test_a_target_is_reached_from_every_other_class(attack):
    view = view_of(Sparse(classes=3), n=40)
    finding = run(replace(attack, goal="targeted", target=1, radius=10.0), view)
    y, shown = view.targets.y, finding.examples
    assert finding["success_rate"].value == 1 and finding["success_rate"].n == int((y != 1).sum())
    assert finding.scores["distance"][y == 1].isinf().all() and finding.scores["distance"][y != 1].isfinite().all()
    assert (shown["answer_after"][shown["label"] != 1] == 1).all()


@pytest.mark.parametrize("attack", [DeepFool(), FMN(norm="l2"), CarliniWagner(rate=0.01)], ids=name)
def test_a_lower_confidence_is_nearer_than_another_answer(attack):
    """At p < .5 in two classes the boundary is the same plane; at p < .55 it is nearer, by the slope of the logits."""
    view = view_of(Sparse(classes=2))
    same = run(replace(attack, goal="confidence-reduction", confidence=0.5, radius=9.0), view)
    nearer = run(replace(attack, goal="confidence-reduction", confidence=0.55, radius=9.0), view)
    exact, odds = planes(view, "l2"), math.log(0.55 / 0.45)
    slope = float((view.module.weight[1] - view.module.weight[0]).detach().norm())
    assert same.scores["distance"].mean() == pytest.approx(float(exact.mean()), rel=0.01)
    expected = (exact - odds / slope).clamp_min(0)
    assert nearer.scores["distance"].mean() == pytest.approx(float(expected.mean()), rel=0.03)


def test_a_record_that_is_wrong_has_no_distance():
    view = view_of()
    wrong = view.targets.y.clone()
    wrong[0] = (wrong[0] + 1) % 4
    finding = run(DeepFool(), replace(view, targets=Records.of(view.targets.x, wrong)))
    assert finding.scores["distance"][0] == 0 and (finding.scores["distance"][1:] > 0).all()
    assert not finding.scores["correct"][0] and finding["mean_distance"].n == 29


@pytest.mark.parametrize("attack", [DeepFool(), FMN(), FAB(), CarliniWagner()], ids=name)
def test_a_record_alone_is_treated_as_in_its_batch(attack):
    view = view_of(n=6)
    together = attack.closest(view, view.targets.x, view.targets.y, torch.Generator())[1]
    for row in range(6):
        x, y = view.targets.x[row : row + 1], view.targets.y[row : row + 1]
        assert float(attack.closest(view, x, y, torch.Generator())[1]) == pytest.approx(float(together[row]), rel=1e-3)


class Sure(nn.Module):
    """Logits x 1e4: the cross-entropy has no gradient left, the gap has."""

    def __init__(self):
        super().__init__()
        self.inner = Sparse()
        self.bias = self.inner.bias

    def forward(self, x):
        return 1e4 * self.inner(x)


@pytest.mark.parametrize("attack", [DeepFool(), FMN(norm="l2"), FAB(norm="l2")], ids=name)
def test_the_scale_of_the_logits_does_not_matter(attack):
    plain, sure = run(attack, view_of()), run(attack, view_of(Sure()))
    assert sure["mean_distance"].value == pytest.approx(plain["mean_distance"].value, rel=0.05)
    assert sure["share_fooled"].value == 1


class Half(nn.Module):
    """The same answers as ``inner``, without gradients: rounded to whole logits times a hundred."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return (100 * self.inner(x)).round().detach() / 100


@pytest.mark.parametrize("attack", [DeepFool(), DDN(), FMN(norm="l2"), FAB(norm="l2"), CarliniWagner()], ids=name)
def test_the_surrogate_leads_and_the_released_model_judges(attack):
    view = view_of()
    finding = run(attack, replace(view, module=Half(view.module)))
    assert finding["share_fooled"].value == 1
    assert finding["mean_distance"].value == pytest.approx(float(planes(view, "l2").mean()), rel=0.3)
    points, distances = attack.closest(replace(view, module=Half(view.module)), view.targets.x, view.targets.y, None)
    assert (Half(view.module)(points).argmax(1) != view.targets.y).all() and distances.isfinite().all()


def test_without_a_surrogate_no_distance_is_claimed():
    finding = run(DeepFool(), replace(view_of(), surrogate=None))
    assert "distance" not in finding.scores
    assert all(m.value is None and m.reason.startswith("not adaptively evaluated") for m in finding.measures)


def test_a_flat_model_is_reported_as_such():
    flat = Sparse(scale=0.0)
    flat.bias = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    finding = run(DeepFool(), view_of(flat))
    assert all(m.value is None and "exactly zero" in m.reason for m in finding.measures)
    assert finding.scores["distance"].isinf().all()


@pytest.mark.parametrize("attack", [DeepFool(radius=9.0), FAB(norm="l2", radius=9.0)], ids=name)
def test_results_of_eight_bits_are_levels_and_fewer(attack):
    """A step of a level is as large as the margins: many that were just beyond the boundary are back."""
    module = Sparse()
    view = view_of(module, n=200)
    view = replace(view, targets=Records.of((view.targets.x * 255).round() / 255, view.targets.y))
    view = replace(view, targets=Records.of(view.targets.x, module(view.targets.x).argmax(1)))
    plain, rounded = run(attack, view), run(replace(attack, eight_bit=True), view)
    levels = 255 * rounded.examples["adversarial"]
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    assert plain["success_rate"].value == 1 and 0.2 < rounded["success_rate"].value < 0.9
    assert rounded["share_fooled"].value == rounded["success_rate"].value


def test_fab_may_stop_at_the_radius():
    """The verdict is the same, the distance is that of the first target that was near enough."""
    view = view_of()
    radius = float(planes(view, "linf").median())
    whole, brief = (run(FAB(radius=radius, halvings=0, exhaustive=e), view) for e in (True, False))
    assert torch.equal(whole.scores["correct"], brief.scores["correct"])
    assert (brief.scores["distance"] >= whole.scores["distance"] - 1e-6).all()


def test_tasks_without_classes():
    """A margin is enough for most; FAB goes for one class at a time, and DeepFool follows the one plane there is."""
    g = torch.Generator().manual_seed(0)
    module, x = Sparse(classes=3), 0.5 + 0.4 * (torch.rand(20, 1, 2, 4, generator=g) - 0.5)
    y = (module(x) > 0).long()
    view = ModelView(3, module, module, Records.of(x, y), task=MultiLabel())
    exact = (module(x).detach().abs() / module.weight.detach().norm(dim=1)).amin(1)
    for attack in (DeepFool(), FMN(norm="l2"), CarliniWagner(rate=0.01)):
        assert run(attack, view).scores["distance"].mean() == pytest.approx(float(exact.mean()), rel=0.05)
    with pytest.raises(Refused, match="fab has no meaning for the task multi-label: it goes for one class at a time"):
        FAB().check_task(MultiLabel())
    with pytest.raises(Refused, match="has no meaning"):
        run(FAB(), view)
    DeepFool().check_task(Regression(0.0, 1.0, 0.1))


@pytest.mark.parametrize(
    "knobs",
    [
        lambda: DeepFool(radius=0.0), lambda: DeepFool(steps=0), lambda: DeepFool(overshoot=-0.1),
        lambda: DeepFool(halvings=-1), lambda: DDN(gamma=1.0), lambda: DDN(start=0.0), lambda: FMN(gamma=0.0),
        lambda: FMN(step_size=0.0), lambda: FMN(norm="l0", radius=0.5), lambda: FAB(targets=0), lambda: FAB(steps=0),
        lambda: CarliniWagner(rate=0.0), lambda: CarliniWagner(constant=0.0), lambda: CarliniWagner(searches=0),
        lambda: CarliniWagner(patience=0), lambda: CarliniWagner(norm="linf", largest=0.5),
    ],
)  # fmt: skip
def test_a_knob_out_of_range_is_refused(knobs):
    with pytest.raises(Refused, match="out of range"):
        knobs()


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        (lambda: CarliniWagner(norm="linf", searches=3), "searches = 3 does nothing where norm = 'linf'"),
        (lambda: CarliniWagner(largest=30.0), "largest = 30.0 does nothing where norm = 'l2'"),
        (lambda: FMN(norm="l0", radius=3.0, halvings=9), "halvings = 9 does nothing where norm = \"l0\""),
        (lambda: FAB(goal="confidence-reduction"), "fab cannot pursue the goal 'confidence-reduction'"),
    ],
)  # fmt: skip
def test_a_knob_without_effect_is_refused(knobs, reason):
    with pytest.raises(Refused) as refusal:
        knobs()
    assert reason in str(refusal.value)
