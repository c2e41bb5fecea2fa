"""The attack on detectors: who knows a detector leaves less of it, and the figures follow the stated rule."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from consilium.attack.evasion._detection_figures import FIGURES, with_detection
from consilium.attack.evasion._evading import Kept, Sight, least_suspected
from consilium.attack.evasion.detection import Detection
from consilium.core.detection import Detecting
from consilium.core.errors import Refused
from consilium.core.finding import Finding
from consilium.core.random import Stream
from consilium.core.records import Records
from consilium.core.threat import ModelView
from consilium.defend.detection.feature_squeezing import FeatureSqueezing
from consilium.defend.detection.learned_detector import LearnedDetector
from consilium.learn.perturbation.goals import Misclassification
from consilium.learn.perturbation.l2 import L2
from consilium.learn.perturbation.losses import MarginLoss
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.single_label import SingleLabel
from consilium.measure.detection import detection_rates, share_of

TASK = SingleLabel()
ATTACK = Detection(radius=0.15, steps=20, restarts=0)


@pytest.fixture(scope="module")
def guarded(network, digits):
    """``guarded(entry)``: what the attack finds of the digits' network with that detector."""
    public, targets = digits[0].select(torch.arange(200)), digits[1].select(torch.arange(60))

    def attacked(entry, attack=ATTACK):
        module = entry.apply(network, public, Stream(0), TASK)
        surrogate = entry.surrogate(module, network)
        view = ModelView(10, module, surrogate, targets, task=TASK)
        return attack(view, {}, torch.Generator().manual_seed(0))

    return attacked


@pytest.mark.parametrize("entry", [FeatureSqueezing(), LearnedDetector(radius=0.15, steps=5)], ids=lambda e: e.kind())
def test_who_knows_the_detector_leaves_less_of_it(entry, guarded):
    finding = guarded(entry)
    plain, adaptive = finding["detection_auc_plain"], finding["detection_auc_adaptive"]
    assert plain.value > 0.6, "nothing to lose"
    assert adaptive.value < plain.value - 0.15 and plain.chance == adaptive.chance == 0.5
    assert plain.low <= plain.value <= plain.high and plain.n > 60
    assert finding["detection_tpr_at_fpr_5_adaptive"].value <= finding["detection_tpr_at_fpr_5_plain"].value
    assert finding["robust_accuracy_with_rejection"].value <= finding["robust_accuracy_with_rejection_plain"].value
    assert finding["clean_accuracy_with_rejection"].value >= finding["robust_accuracy_with_rejection"].value


def test_it_says_so_where_a_detector_is_beaten(guarded):
    notes = guarded(FeatureSqueezing(), replace(ATTACK, steps=40)).notes
    assert any(note.startswith("The detector is beaten") for note in notes)
    assert any("is no success" in note for note in notes)


class Ordinary(Detecting):
    """Suspects everything alike."""

    def suspicion(self, x):
        return torch.zeros(len(x))


def test_what_notices_nothing_is_at_chance(network, digits):
    module = Ordinary(network, {"threshold": torch.tensor(0.0)})
    view = ModelView(10, module, module, digits[1].select(torch.arange(40)), task=TASK)
    finding = ATTACK(view, {}, torch.Generator().manual_seed(0))
    for name in ("plain", "adaptive"):
        assert finding[f"detection_auc_{name}"].value == 0.5
        assert finding[f"detection_tpr_at_fpr_5_{name}"].value == 0
    assert finding["false_positive_rate"].value == 0
    assert finding["robust_accuracy_with_rejection"].value == finding["robust_accuracy"].value


def test_a_model_without_a_detector_has_no_such_figures(view):
    few = replace(view, targets=view.targets.select(torch.arange(10)))
    finding = ATTACK(few, {}, torch.Generator().manual_seed(0))
    assert all(finding[name].value is None and "no detector" in finding[name].reason for name in FIGURES)
    assert finding["robust_accuracy"].value is not None


# --- the rule, by hand


def test_a_rejection_is_no_success_and_on_a_clean_record_an_error():
    n = 24
    scores = {
        "correct": torch.zeros(n, dtype=torch.bool),
        "correct_before": torch.arange(n) < 20,  # four wrong as they are
        "suspicion": torch.where(torch.arange(n) < 2, 9.0, 1.0),  # two clean ones rejected
        "fooled_plain": torch.arange(n) < 10,
        "suspicion_plain": torch.where(torch.arange(n) < 6, 7.0, 2.0),  # four get by: 6 to 9
        "fooled_adaptive": torch.arange(n) < 15,
        "suspicion_adaptive": torch.where(torch.arange(n) < 4, 7.0, 2.0),  # eleven get by: 4 to 14
    }
    finding = with_detection(Finding((), scores=scores), torch.tensor(5.0))
    value = {name: finding[name].value * n for name in FIGURES[4:]}
    assert value["false_positive_rate"] == pytest.approx(2)
    assert value["clean_accuracy_with_rejection"] == pytest.approx(18)
    assert value["robust_accuracy_with_rejection_plain"] == pytest.approx(14)
    assert value["robust_accuracy_with_rejection"] == pytest.approx(7)
    # 10 adversarial ones against 24 clean: six at 7 above 22 of them, four at 2 above the same 22
    assert finding["detection_auc_plain"].value == pytest.approx(22 / 24)
    assert finding["detection_auc_plain"].n == 34


def test_the_rates_by_hand():
    clean, adversarial = torch.arange(40.0), torch.tensor([38.5, 37.5, 36.5, -1.0])
    area, rate = detection_rates(clean, adversarial, "plain", Stream(0))
    assert area.value == pytest.approx((39 + 38 + 37 + 0) / (40 * 4))
    assert rate.value == 2 / 4 and rate.n == 4 and rate.chance == 0.05  # 2 of 40 clean ones lie above 37
    tied, none = detection_rates(torch.zeros(40), torch.zeros(5), "plain", Stream(0))
    assert tied.value == 0.5 and none.value == 0
    assert all(one.value is None for one in detection_rates(clean, clean[:0], "plain", Stream(0)))
    area, rate = detection_rates(clean[:10], adversarial, "plain", Stream(0))
    assert area.value is not None and "not resolvable (n = 10)" in rate.reason
    assert share_of("rate", torch.tensor([True, False])).value == 0.5


# --- the walk, where the answer is known


class Height(Detecting):
    """Suspects by the second of two features; the first decides the class."""

    def suspicion(self, x):
        return x[:, 1]


def test_the_walk_reaches_the_least_suspected_point_that_fools():
    model = nn.Linear(2, 2).requires_grad_(False)
    model.weight.copy_(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]))
    model.bias.copy_(torch.tensor([0.5, -0.5]))  # class 1 from x_0 > 0.5
    detecting = Height(model, {"threshold": torch.tensor(0.5)})
    x, y, ball, goal = torch.tensor([[0.4, 0.6]]), torch.tensor([0]), L2(0.2), Misclassification(TASK)
    sight = Sight(detecting, detecting, detecting, detecting)
    start = Kept(x, torch.tensor([False]), torch.tensor([0.6]))
    best = least_suspected(sight, x, y, start, x, ball=ball, steps=200, loss=MarginLoss(), goal=goal)
    # On the boundary x_0 = 0.5 of a disc of radius 0.2 around (0.4, 0.6) the lowest point is 0.6 - sqrt(0.03).
    assert bool(best.fooled) and float(best.suspicion) == pytest.approx(0.6 - 0.03**0.5, abs=0.01)
    assert float((best.point - x).norm()) <= 0.2 + 1e-5
    short = least_suspected(sight, x, y, start, x, ball=ball, steps=1, loss=MarginLoss(), goal=goal)
    assert float(short.suspicion) > float(best.suspicion) + 0.05, "one step would do"


def test_what_fools_is_kept_before_what_is_unsuspected():
    one = Kept(torch.zeros(3, 1), torch.tensor([True, True, False]), torch.tensor([5.0, 5.0, 1.0]))
    kept = one.better(torch.ones(3, 1), torch.tensor([False, True, True]), torch.tensor([0.0, 4.0, 9.0]))
    assert kept.point.flatten().tolist() == [0, 1, 1] and kept.suspicion.tolist() == [5, 4, 9]
    assert kept.fooled.all()


@pytest.mark.parametrize("knobs", [{"radius": 0.0}, {"steps": 0}, {"restarts": -1}], ids=str)
def test_a_knob_out_of_range_is_refused(knobs):
    with pytest.raises(Refused, match="is out of range"):
        Detection(**knobs)


def test_answers_without_classes_are_refused():
    with pytest.raises(Refused, match="classes that exclude each other"):
        Detection().check_task(MultiLabel())


def test_records_that_nobody_fools_leave_the_rates_undefined():
    model = nn.Linear(2, 2).requires_grad_(False)
    model.weight.zero_()
    model.bias.copy_(torch.tensor([1.0, 0.0]))
    detecting = Height(model, {"threshold": torch.tensor(0.5)})
    targets = Records.of(torch.rand(30, 2), torch.zeros(30, dtype=torch.long))
    view = ModelView(2, detecting, detecting, targets, task=TASK)
    attack = Detection(steps=2)
    finding = attack(view, {}, torch.Generator().manual_seed(0))
    assert finding["detection_auc_plain"].value is None
