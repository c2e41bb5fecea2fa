"""Figures of findings, numbers, masks and times against scikit-learn and definitions written out."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics

from consilium.core.random import Stream
from consilium.measure.tasks.masks import dice, hd95, mask_figures
from consilium.measure.tasks.multi_label import average_precisions, multi_label_figures
from consilium.measure.tasks.regression import regression_figures
from consilium.measure.tasks.survival import concordance, survival_figures

N, NAMES = 120, ("effusion", "nodule", "fracture")


def findings(seed=0, n=N):
    g = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, 3, generator=g) < torch.tensor([0.5, 0.2, 0.1])).long()
    z = torch.randn(n, 3, generator=g, dtype=torch.float64) + y
    return (10 * z).round() / 10, y  # with ties


def test_ranks_are_those_of_scikit_learn_with_ties():
    z, y = findings()
    figures = {m.name: m for m in multi_label_figures(z, y, torch.arange(N), NAMES, Stream(0))}
    assert figures["macro_auroc"].value == pytest.approx(metrics.roc_auc_score(y, z, average="macro"))
    expected = metrics.average_precision_score(y, z, average=None)
    assert average_precisions(z, y) == pytest.approx(list(expected))
    assert figures["macro_average_precision"].value == pytest.approx(expected.mean())
    assert figures["macro_average_precision"].chance == pytest.approx(float(y.double().mean()))
    for k, name in enumerate(NAMES):
        assert figures[f"auroc[{name}]"].value == pytest.approx(metrics.roc_auc_score(y[:, k], z[:, k]))
    assert figures["label_accuracy"].value == pytest.approx(((z > 0).long() == y).double().mean().item())
    flat = metrics.brier_score_loss(y.flatten(), z.sigmoid().flatten())
    assert figures["brier_score"].value == pytest.approx(flat)


def test_a_finding_nobody_has_is_left_out_by_name():
    z, y = findings()
    y[:, 2] = 0
    figures = {m.name: m for m in multi_label_figures(z, y, torch.arange(N), NAMES, Stream(0))}
    assert figures["auroc[fracture]"].value is None and "none of the records" in figures["auroc[fracture]"].reason
    assert figures["macro_auroc"].value == pytest.approx(metrics.roc_auc_score(y[:, :2], z[:, :2], average="macro"))
    for name in ("macro_auroc", "macro_average_precision"):
        said = figures[name].reason
        assert said == "the mean of 2 of 3 findings: all test records have 'fracture', or none has"
    whole = multi_label_figures(*findings(), torch.arange(N), NAMES, Stream(0))
    assert not any(measure.reason for measure in whole)


@pytest.mark.parametrize("figure", ["macro_auroc", "macro_average_precision"])
def test_intervals_cover_the_truth_and_are_wider_for_few_patients(figure):
    truth_z, truth_y = findings(1, 40_000)
    truth = {"macro_auroc": metrics.roc_auc_score, "macro_average_precision": metrics.average_precision_score}[figure]
    value, hits = truth(truth_y, truth_z, average="macro"), 0
    for seed in range(40):
        z, y = findings(seed + 2, 200)
        found = {m.name: m for m in multi_label_figures(z, y, torch.arange(200), NAMES, Stream(seed))}[figure]
        hits += found.low <= value <= found.high
    assert hits >= 33, "95 % of 40, binomial at 1 in 10,000"
    z, y = findings()
    one, ten = (
        {m.name: m for m in multi_label_figures(z, y, torch.arange(N) // k, NAMES, Stream(0))}[figure] for k in (1, 10)
    )
    copies = (part.repeat(4, *(1,) * (part.dim() - 1)) for part in (z, y, torch.arange(N)))
    repeated = {m.name: m for m in multi_label_figures(*copies, NAMES, Stream(0))}[figure]
    assert repeated.high - repeated.low == pytest.approx(one.high - one.low, rel=0.15), "copies are no new patients"
    assert ten.n == one.n == N


def test_numbers_are_those_of_scikit_learn():
    g = torch.Generator().manual_seed(0)
    y = 50 + 20 * torch.randn(N, 2, generator=g, dtype=torch.float64)
    a = y + 10 * torch.randn(N, 2, generator=g, dtype=torch.float64)
    figures = {m.name: m for m in regression_figures(a, y, torch.arange(N), ("age", "dose"), Stream(0))}
    assert figures["r2"].value == pytest.approx(metrics.r2_score(y, a))
    assert figures["mean_absolute_error"].value == pytest.approx(metrics.mean_absolute_error(y, a))
    assert figures["r2[dose]"].value == pytest.approx(metrics.r2_score(y[:, 1], a[:, 1]))
    median = y.numpy() - np.median(y.numpy(), axis=0)
    assert figures["mean_absolute_error"].chance == pytest.approx(np.abs(median).mean())
    for m in figures.values():
        assert m.low < m.value < m.high
    mean = y.mean(0, keepdim=True).expand_as(y)
    assert regression_figures(mean, y, torch.arange(N), ("age", "dose"), Stream(0))[0].value == pytest.approx(0)


def test_a_truth_that_never_varies_has_no_r2():
    y = torch.ones(20, 1)
    figures = {m.name: m for m in regression_figures(y + 1, y, torch.arange(20), ("age",), Stream(0))}
    assert figures["r2"].value is None and figures["mean_absolute_error"].value == 1


def brute_hd95(a, b):
    def surface(mask):
        padded = np.pad(mask, 1)
        neighbours = [np.roll(padded, s, axis) for axis in range(mask.ndim) for s in (1, -1)]
        inside = np.all(neighbours, axis=0)
        return np.argwhere((padded & ~inside)[tuple(slice(1, -1) for _ in range(mask.ndim))])

    p, q = surface(a), surface(b)
    apart = np.sqrt(((p[:, None] - q[None]) ** 2).sum(-1))
    return max(np.percentile(apart.min(1), 95), np.percentile(apart.min(0), 95))


@pytest.mark.parametrize("shape", [(12, 9), (6, 7, 5)])
def test_distances_are_those_of_all_pairs_of_surface_pixels(shape):
    g = np.random.default_rng(0)
    for _ in range(10):
        a, b = (g.random(shape) < 0.2 for _ in range(2))
        assert hd95(a, b) == pytest.approx(brute_hd95(a, b))
    empty = np.zeros(shape, bool)
    assert hd95(empty, empty) == 0 and hd95(a, empty) == hd95(empty, a) == pytest.approx(math.hypot(*shape))


def test_masks_are_judged_by_patient_and_empty_ones_by_the_rule():
    truth = torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    truth[0, 0, :4], truth[1, 0, :4] = True, True
    shown = truth.clone()
    shown[1, 0, :2] = False  # Dice 2 * 16 / (16 + 32)
    shown[3, 0, 0, 0] = True  # shown alone: 0
    assert dice(shown, truth)[:, 0].tolist() == pytest.approx([1, 2 / 3, 1, 0])
    figures = {m.name: m for m in mask_figures(shown, truth, torch.tensor([5, 5, 6, 7]), ["lesion"], Stream(0))}
    assert figures["dice"].value == pytest.approx(((1 + 2 / 3) / 2 + 1 + 0) / 3) and figures["dice"].n == 3
    assert figures["empty_in_truth"].value == 2 and figures["empty_in_answer"].value == 1
    apart = hd95(*(m[1, 0].numpy() for m in (shown, truth)))
    assert figures["hd95"].value == pytest.approx(((0 + apart) / 2 + 0 + math.hypot(8, 8)) / 3)
    assert figures["dice"].chance == pytest.approx((0 + 1 + 1) / 3), (
        "showing nothing is right for two patients of three"
    )


def test_concordance_counts_pairs_one_by_one():
    g = np.random.default_rng(1)
    for _ in range(20):
        n = 15
        risk, time = g.integers(0, 5, n).astype(float), g.integers(1, 9, n).astype(float)
        event = g.random(n) < 0.6
        won = pairs = 0.0
        for i in range(n):
            for j in range(n):
                if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                    pairs += 1
                    won += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
        assert concordance(risk, time, event) == pytest.approx(won / pairs)
    assert concordance(risk, time, np.zeros(n, bool)) is None


def test_times_are_judged_where_they_are_known():
    y = torch.tensor([[1.0, 1], [5.0, 1], [2.0, 0], [6.0, 0]])
    s = torch.tensor([0.2, 0.9, 0.5, 0.6], dtype=torch.float64)
    index, brier = survival_figures(-s, s, y, 4.0, torch.arange(4), Stream(0))
    assert brier.n == 3 and brier.value == pytest.approx((0.2**2 + 0.1**2 + 0.4**2) / 3)
    assert brier.chance == pytest.approx(2 / 3 * 1 / 3) and index.value == pytest.approx(3 / 4)


def test_chance_of_the_brier_score_is_of_each_finding_and_n_counts_records():
    """One finding in half of the records and three in 2 %: .0772 on average, not .1204 of their pooled share."""
    y = torch.zeros(100, 4).long()
    y[:50, 0], y[:2, 1:] = 1, 1
    figures = {m.name: m for m in multi_label_figures(torch.randn(100, 4), y, torch.arange(100), "pqrs", Stream(0))}
    assert figures["brier_score"].chance == pytest.approx((0.25 + 3 * 0.02 * 0.98) / 4)
    assert figures["brier_score"].n == figures["expected_calibration_error"].n == 100
    assert figures["brier_score"].unit_count == 0
