"""Utility against scikit-learn and by hand; what is undefined says why."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.measure.intervals import wilson
from consilium.measure.utility import is_collapsed, utility

NAMES = [
    "accuracy",
    "balanced_accuracy",
    "auroc",
    "sensitivity",
    "specificity",
    "majority_rate",
    "predicted_majority_share",
]


def figures(logits, y, seed=0):
    return {m.name: m for m in utility(logits, y, Stream(seed))}


def sample(n, classes, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.arange(classes), torch.randint(classes, (n - classes,), generator=g)])
    return torch.randn(n, classes, generator=g) + 1.2 * torch.eye(classes)[y], y


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_it_agrees_with_sklearn(classes):
    logits, y = sample(300, classes)
    got, guess, p = figures(logits, y), logits.argmax(1), torch.softmax(logits.double(), 1)
    assert list(got) == NAMES
    assert got["accuracy"].value == pytest.approx(metrics.accuracy_score(y, guess))
    assert got["balanced_accuracy"].value == pytest.approx(metrics.balanced_accuracy_score(y, guess))
    area = metrics.roc_auc_score(y, p[:, 1]) if classes == 2 else metrics.roc_auc_score(y, p, multi_class="ovr")
    assert got["auroc"].value == pytest.approx(area)
    tables = metrics.multilabel_confusion_matrix(y, guess)  # [[tn, fp], [fn, tp]] per class
    if classes == 2:
        tables = tables[1:]
    assert got["sensitivity"].value == pytest.approx(np.mean([t[1, 1] / t[1].sum() for t in tables]))
    assert got["specificity"].value == pytest.approx(np.mean([t[0, 0] / t[0].sum() for t in tables]))
    assert all(m.low < m.value < m.high for m in got.values())


def test_two_classes_by_hand():
    """Positive is class 1: 3 of 4 found, 4 of 6 negatives cleared."""
    y = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    guess = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0, 1, 1])
    got = figures(torch.eye(2)[guess], y)
    assert [got[k].value for k in NAMES] == pytest.approx([0.7, (3 / 4 + 4 / 6) / 2, (3 / 4 + 4 / 6) / 2, 0.75, 4 / 6,
                                                           0.6, 0.5])  # fmt: skip
    assert (got["sensitivity"].n, got["specificity"].n, got["accuracy"].n) == (4, 6, 10)
    assert (got["accuracy"].low, got["accuracy"].high) == wilson(7, 10)


def test_chance_levels():
    logits, y = sample(300, 3)
    got = figures(logits, y)
    assert got["accuracy"].chance == got["majority_rate"].value
    assert [got[k].chance for k in NAMES[1:5]] == pytest.approx([1 / 3, 0.5, 1 / 3, 2 / 3])


def test_a_constant_model_is_at_chance():
    y = torch.arange(90) % 3
    got = figures(torch.tensor([[0.0, 2.0, 1.0]]).expand(90, 3), y)
    for name in NAMES[:5]:
        assert got[name].value == pytest.approx(got[name].chance)
    assert got["predicted_majority_share"].value == 1


def test_a_missing_class_leaves_some_undefined_with_the_reason():
    got = figures(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2)
    assert got["accuracy"].value is not None and got["majority_rate"].value == 0.5
    for name in NAMES[1:5]:
        assert got[name].value is None and got[name].reason == "no record of class 2"


def test_a_model_that_answers_nan_has_no_figures():
    logits, y = sample(10, 2)
    logits[3, 0] = torch.nan
    got = figures(logits, y)
    assert all(m.value is None and "NaN for 1 of 10" in m.reason for m in got.values())
    assert is_collapsed(logits)


def test_no_records():
    assert all(m.reason == "there are no records" for m in utility(torch.zeros(0, 2), torch.zeros(0).long(), Stream(0)))
    assert not is_collapsed(torch.zeros(0, 2))


def test_rounded_answers():
    """log(0) = -inf, and a row whose confidences were all rounded away."""
    p = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.3, 0.7], [0.0, 0.0]])
    assert figures(p.log(), torch.tensor([0, 1, 0, 1]))["auroc"].value == 0.75


def test_confident_logits_do_not_tie():
    """In float32 both positives would have probability 1."""
    logits, y = torch.tensor([[0.0, 30.0], [0.0, 25.0], [0.0, 20.0]]), torch.tensor([1, 0, 0])
    assert figures(logits, y)["auroc"].value == 1


@pytest.mark.parametrize(
    ("logits", "y"),
    [
        (torch.zeros(3), torch.zeros(3).long()),
        (torch.zeros(3, 2), torch.zeros(2).long()),
        (torch.zeros(3, 1), torch.zeros(3).long()),
        (torch.zeros(3, 2), torch.tensor([0, 1, 2])),
        (torch.zeros(3, 2), torch.tensor([0, 1, -1])),
    ],
)
def test_what_does_not_fit_is_refused(logits, y):
    with pytest.raises(Refused):
        utility(logits, y, Stream(0))


def test_the_stream_decides_and_the_input_stays():
    logits, y = sample(100, 3)
    before = logits.clone()
    assert figures(logits, y) == figures(logits, y) != figures(logits, y, seed=1)
    assert torch.equal(logits, before)


@pytest.mark.parametrize(("share", "collapsed"), [(0.95, False), (0.96, True), (1.0, True)])
def test_collapse_is_more_than_95_percent_of_one_class(share, collapsed):
    guess = (torch.arange(100) >= round(100 * share)).long()
    assert is_collapsed(torch.eye(2)[guess]) is collapsed
