"""Every task: losses against formulas written out, verdicts that follow them, labels that are refused by name."""

import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.core.task import Task
from consilium.learn.tasks.masks import Masks
from consilium.learn.tasks.multi_label import MultiLabel
from consilium.learn.tasks.regression import Regression
from consilium.learn.tasks.single_label import SingleLabel
from consilium.learn.tasks.survival import Survival

N = 40
CUTS = (1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Case:
    """A task, the names of its labels, and the shape of its inputs."""

    task: Task
    labels: tuple[str, ...]
    inputs: tuple[int, ...] = (1, 6, 5)

    def answers(self, seed: int = 0) -> Tensor:
        shape = self.task.answer_shape(len(self.labels), self.inputs)
        return torch.randn(N, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def y(self, seed: int = 1) -> Tensor:
        return self.task.drawn(N, len(self.labels), self.inputs, torch.Generator().manual_seed(seed))


CASES = {
    "single-label": Case(SingleLabel(), ("a", "b", "c")),
    "multi-label": Case(MultiLabel(), ("a", "b", "c")),
    "multi-label-most": Case(MultiLabel(right_share=0.6), ("a", "b", "c", "d", "e")),
    "regression": Case(Regression(low=-2.0, high=4.0, tolerance=1.5), ("age", "dose")),
    "masks": Case(Masks(threshold=0.4), ("background", "organ", "lesion")),
    "masks-nested": Case(Masks(threshold=0.4, nested=True), ("whole", "core")),
    "masks-3d": Case(Masks(threshold=0.4), ("background", "organ"), (2, 4, 3, 5)),
    "survival": Case(Survival(cuts=CUTS, horizon=4.0), ("time", "event")),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@cases
def test_labels_that_are_drawn_or_mistaken_fit_and_a_mistake_is_another(case):
    y = case.y()
    case.task.check_labels(y, case.labels, case.inputs, "here")
    other = case.task.mistaken(y, len(case.labels), torch.Generator().manual_seed(3))
    case.task.check_labels(other, case.labels, case.inputs, "here")
    assert other.shape == y.shape and (other != y).flatten(1).any(1).all() if y.dim() > 1 else (other != y).all()


@cases
def test_a_loss_is_that_of_its_record_alone_with_the_gradient_of_vmap(case):
    answers, y = case.answers().requires_grad_(True), case.y()
    losses = case.task.losses(answers, y)
    alone = torch.cat([case.task.losses(answers[i : i + 1], y[i : i + 1]) for i in range(N)])
    assert losses.shape == (N,) and bool((losses >= 0).all())
    torch.testing.assert_close(losses, alone, rtol=0, atol=1e-12)
    (whole,) = torch.autograd.grad(losses.sum(), answers)
    each = vmap(grad(lambda a, t: case.task.losses(a[None], t[None])[0]))(answers.detach(), y)
    torch.testing.assert_close(whole, each, rtol=0, atol=1e-12)


@cases
def test_a_verdict_is_that_of_its_record_alone(case):
    answers, y = case.answers(), case.y()
    for verdict in (case.task.right, case.task.surely_wrong, case.task.margin):
        alone = torch.cat([verdict(answers[i : i + 1], y[i : i + 1]) for i in range(N)])
        torch.testing.assert_close(verdict(answers, y), alone, rtol=0, atol=1e-12)


@cases
def test_what_is_surely_wrong_is_not_right_and_both_occur(case):
    answers, y = case.answers(), case.y()
    right, wrong = case.task.right(answers, y), case.task.surely_wrong(answers, y)
    assert not (right & wrong).any() and right.dtype == wrong.dtype == torch.bool
    assert (right | wrong).all(), "random answers are never within rounding of the border"


@cases
def test_no_nan_is_right_or_surely_wrong_and_no_figure_is_made_of_one(case):
    answers, y = torch.full_like(case.answers(), torch.nan), case.y()
    assert not case.task.right(answers, y).any() and not case.task.surely_wrong(answers, y).any()
    assert case.task.is_collapsed(answers)
    figures = case.task.measures(answers, y, torch.arange(N), case.labels, Stream(0))
    assert all(f.value is None and "NaN" in f.reason for f in figures)
    assert {"accuracy", case.task.score} <= {f.name for f in figures}


@cases
def test_the_figures_begin_with_accuracy_and_hold_the_score(case):
    figures = case.task.measures(case.answers(), case.y(), torch.arange(N) // 2, case.labels, Stream(0))
    named = {f.name: f for f in figures}
    assert figures[0].name == "accuracy" and len(named) == len(figures)
    assert figures[0].value == pytest.approx(float(case.task.right(case.answers(), case.y()).double().mean()))
    score = named[case.task.score]
    assert score.n and score.low <= score.value <= score.high and score.chance is not None


@cases
def test_the_best_constant_is_no_worse_than_any_constant_that_is_tried(case):
    y, most = case.y(), 0
    for seed in range(50):
        one = case.answers(seed)[:1].expand(N, *case.answers().shape[1:])
        most = max(most, int(case.task.right(3 * one, y).sum()))
    if not isinstance(case.task, Regression | Masks):  # theirs are the best of a few constants
        assert case.task.most_right(y) >= most
    assert 0 <= case.task.most_right(y) <= N


@cases
def test_strata_are_numbered_from_0_and_follow_the_labels(case):
    y = case.y()
    strata = case.task.strata(y)
    assert strata.shape == (N,) and strata.dtype == torch.int64 and int(strata.min()) >= 0
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    assert torch.equal(case.task.strata(y[order]), strata[order]) or isinstance(case.task, Regression)


@cases
def test_a_constant_answer_has_collapsed_and_random_ones_have_not(case):
    answers = case.answers()
    assert case.task.is_collapsed(torch.zeros_like(answers))
    if not isinstance(case.task, Masks):  # some pixels of random masks always differ
        assert not case.task.is_collapsed(answers)


@cases
def test_labels_of_another_shape_are_refused(case):
    with pytest.raises(Refused) as error:
        case.task.check_labels(case.y()[..., None], case.labels, case.inputs, "mine.npz[y]")
    assert error.value.where == "mine.npz[y]" and error.value.remedy


def test_multi_label_is_the_mean_of_binary_cross_entropies():
    case = CASES["multi-label"]
    z, y = case.answers(), case.y()
    expected = [sum(math.log1p(math.exp(-(2 * t - 1) * a)) for a, t in zip(za, ya, strict=True)) / 3
                for za, ya in zip(z.tolist(), y.tolist(), strict=True)]  # fmt: skip
    torch.testing.assert_close(MultiLabel().losses(z, y), torch.tensor(expected, dtype=torch.float64))
    share = ((z > 0).long() == y).double().mean(1)
    assert torch.equal(MultiLabel().right(z, y), share == 1)
    assert torch.equal(MultiLabel(right_share=0.6).right(z, y), share >= 0.6)


def test_regression_is_squared_error_of_shares_of_the_range():
    case = CASES["regression"]
    a, y = case.answers(), case.y().double()
    expected = (((-2 + 6 * a) - y) / 6).square().mean(1)
    torch.testing.assert_close(case.task.losses(a, y), expected)
    assert torch.equal(case.task.right(a, y), ((-2 + 6 * a) - y).abs().amax(1) <= 1.5)


def test_the_loss_of_masks_is_written_out():
    case = CASES["masks"]
    z, y = case.answers()[:3], case.y()[:3]
    for i in range(3):
        p, overlaps = z[i].softmax(0), []
        for label in (1, 2):
            g = (y[i] == label).double()
            overlaps.append((2 * (p[label] * g).sum() + 1) / (p[label].sum() + g.sum() + 1))
        expected = F.cross_entropy(z[i][None], y[i][None]) + 1 - (overlaps[0] + overlaps[1]) / 2
        torch.testing.assert_close(case.task.losses(z, y)[i], expected)


def test_two_empty_masks_are_right_and_one_alone_is_wrong():
    task, y = Masks(threshold=1.0), torch.zeros(2, 4, 4, dtype=torch.long)
    z = torch.stack([torch.ones(2, 4, 4), torch.zeros(2, 4, 4)], 1)
    z[1, 1, 0, 0] = 2.0
    assert task.right(z, y).tolist() == [True, False]


def test_survival_is_the_product_of_hazards():
    task = CASES["survival"].task
    z = torch.tensor([[0.3, -1.0, 0.5, 2.0]], dtype=torch.float64)
    h = z.sigmoid()[0].tolist()
    for time, event, factors in (
        (1.5, 1, (1 - h[0], h[1])),
        (2.0, 1, (1 - h[0], h[1])),
        (1.4, 0, (1 - h[0],)),
        (1.5, 0, (1 - h[0], 1 - h[1])),
        (9.0, 1, tuple(1 - x for x in h)),
        (0.4, 0, ()),
    ):
        loss = float(task.losses(z, torch.tensor([[time, event]])))
        assert loss == pytest.approx(-sum(map(math.log, factors))), (time, event)


def test_survival_is_judged_at_the_horizon_or_as_long_as_it_is_known():
    task = CASES["survival"].task
    falling = torch.tensor([[-9.0, -9.0, 9.0, 9.0]], dtype=torch.float64)  # S falls below one half in (2, 4]
    for time, event, right in ((3.0, 1, True), (5.0, 1, False), (5.0, 0, False), (2.5, 0, True), (0.5, 0, True)):
        assert bool(task.right(falling, torch.tensor([[time, event]]))) is right, (time, event)
    assert task.predicted(falling).tolist() == [[4.0, 1.0]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Regression(low=1.0, high=1.0, tolerance=0.1), "high: 1.0 is out of range"),
        (lambda: Regression(low=0.0, high=1.0, tolerance=0.0), "tolerance: 0.0 is out of range"),
        (lambda: Masks(threshold=0.0), "threshold: 0.0 is out of range"),
        (lambda: MultiLabel(right_share=1.5), "right-share: 1.5 is out of range"),
        (lambda: Survival(cuts=(2.0, 1.0), horizon=1.0), "cuts: [2.0, 1.0] is out of range"),
        (lambda: Survival(cuts=(1.0, 2.0), horizon=3.0), "horizon: 3.0 is out of range"),
        (lambda: Masks(threshold=0.5).answer_shape(2, (7,)), "masks need pictures"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(make, said):
    with pytest.raises(Refused) as error:
        make()
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("case", "wrong", "said"),
    [
        ("single-label", torch.tensor([0, 3, 1]), "record 1 has a label outside 0..2 (such as 3)"),
        ("single-label", torch.zeros(3, 2).long(), 'task = "multi-label"'),
        ("multi-label", torch.tensor([[0, 1, 2]]), "record 0 has a finding that is neither 0 nor 1 (such as 2)"),
        ("regression", torch.tensor([[0.0, 9.0]]), "record 0 has a label outside the declared range, -2 to 4"),
        ("regression", torch.tensor([[0.0, torch.nan]]), "record 0 has a label that is no number"),
        ("masks", torch.full((1, 6, 5), 3), "record 0 has a pixel outside 0..2 (such as 3)"),
        ("survival", torch.tensor([[0.0, 1.0]]), "record 0 has no time above 0"),
        ("survival", torch.tensor([[1.0, 2.0]]), "record 0 has an event that is neither 0 nor 1"),
    ],
)
def test_wrong_labels_are_refused_by_record(case, wrong, said):
    with pytest.raises(Refused) as error:
        CASES[case].task.check_labels(wrong, CASES[case].labels, CASES[case].inputs, "y")
    assert said in f"{error.value} {error.value.remedy}"
