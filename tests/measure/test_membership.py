"""Membership figures: closed forms, what may not be learned from the judged half, and LAWS 17-18."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from consilium.core.errors import Refused
from consilium.core.random import Stream
from consilium.measure.intervals import clopper_pearson, difference
from consilium.measure.membership import best_threshold, membership


def figures(scores, member, known, seed=0):
    return {m.name: m for m in membership(scores, member, Stream(seed), known=known)}


def sample(n, gap, seed=0):
    g = torch.Generator().manual_seed(seed)
    member = torch.arange(n) % 2 == 0
    return torch.randn(n, generator=g) + gap * member, member, torch.arange(n) % 4 < 2


def test_two_normals_have_the_areas_of_the_textbook():
    """Members N(1, 1), others N(0, 1): advantage 2 Phi(1/2) - 1 = .383, AUC Phi(1/sqrt 2) = .760."""
    got = figures(*sample(20_000, 1.0))
    assert got["advantage"].value == pytest.approx(0.383, abs=0.03)
    assert got["auc"].value == pytest.approx(0.760, abs=0.015)
    expected = stats.norm.sf(stats.norm.isf(0.01) - 1)
    assert got["tpr_at_fpr_1"].value == pytest.approx(expected, abs=0.03)
    assert got["tpr_at_fpr_1"].low < expected < got["tpr_at_fpr_1"].high


def test_it_agrees_with_sklearn_and_the_intervals_are_those_stated():
    scores, member, known = sample(5000, 0.8)
    got, s, m = figures(scores, member, known), scores[~known], member[~known]
    assert got["auc"].value == pytest.approx(roc_auc_score(m, s))
    assert got["auc"].low < got["auc"].value < got["auc"].high
    fpr, tpr, _ = roc_curve(m, s, drop_intermediate=False)
    assert got["tpr_at_fpr_1"].value == pytest.approx(tpr[fpr <= 0.01].max())
    k = round(got["tpr_at_fpr_1"].value * m.sum().item())
    assert (got["tpr_at_fpr_1"].low, got["tpr_at_fpr_1"].high) == clopper_pearson(k, int(m.sum()))
    t = best_threshold(scores[known], member[known])
    a, b = int((s[m] >= t).sum()), int((s[~m] >= t).sum())
    assert got["advantage"].value == pytest.approx(a / m.sum().item() - b / (~m).sum().item())
    assert (got["advantage"].low, got["advantage"].high) == difference(a, int(m.sum()), b, int((~m).sum()))


def test_chance_levels():
    got = figures(*sample(50_000, 0.0))
    assert [m.chance for m in got.values()] == [0, 0.5, 0.01, 0.001]
    assert [m.value for m in got.values()] == pytest.approx([0, 0.5, 0.01, 0.001], abs=0.012)


def test_the_threshold_is_learned_on_the_known_half_only():
    """The judged half has its signal the other way round: a threshold learned there would win, ours must lose."""
    scores, member, known = sample(400, 3.0)
    scores = torch.where(known, scores, -scores)
    got = figures(scores, member, known)
    assert got["advantage"].value < 0 and got["auc"].value < 0.1


def test_scores_of_the_known_half_do_not_count():
    scores, member, known = sample(400, 0.0)
    better = torch.where(known, scores + 100 * member, scores)
    assert figures(better, member, known)["auc"] == figures(scores, member, known)["auc"]


@pytest.mark.parametrize(("outside", "one", "tenth"), [(999, False, False), (1000, True, False), (10_000, True, True)])
def test_law_18(outside, one, tenth):
    member = torch.cat([torch.ones(50), torch.zeros(outside), torch.ones(5), torch.zeros(5)]).bool()
    known = torch.arange(len(member)) >= 50 + outside
    got = figures(torch.randn(len(member), generator=torch.Generator().manual_seed(0)), member, known)
    for name, resolvable in (("tpr_at_fpr_1", one), ("tpr_at_fpr_0.1", tenth)):
        if resolvable:
            assert got[name].value is not None and got[name].n == 50
        else:
            assert got[name].value is None and got[name].reason == f"not resolvable (n = {outside})"


def test_ties_never_buy_a_lower_false_positive_rate():
    """Half of the non-members share the members' score: at FPR 1 % no member can be told."""
    member = torch.arange(4000) % 2 == 0
    scores = torch.where(member | (torch.arange(4000) % 4 == 1), 1.0, 0.0)
    assert figures(scores, member, torch.arange(4000) >= 3000)["tpr_at_fpr_1"].value == 0


def brute(scores, member):
    """The best TPR - FPR over every threshold."""
    cuts = [*scores.tolist(), math.inf]
    return max((scores[member] >= t).double().mean() - (scores[~member] >= t).double().mean() for t in cuts)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_threshold_is_the_best_of_all(seed):
    g = np.random.default_rng(seed)
    member = torch.tensor(np.r_[True, False, g.random(18) < 0.5])
    scores = torch.tensor(np.round(g.normal(size=20) + 0.5 * member.numpy(), 1))
    t = best_threshold(scores, member)
    reached = (scores[member] >= t).double().mean() - (scores[~member] >= t).double().mean()
    assert reached == pytest.approx(float(brute(scores, member)))


def test_if_nothing_helps_nobody_is_called_a_member():
    member = torch.tensor([False, False, True, True])
    assert best_threshold(torch.tensor([3.0, 4.0, 1.0, 2.0]), member) > 4


def test_what_cannot_be_judged():
    scores, member, known = sample(40, 1.0)
    one_sided = figures(scores, member, known | member)
    assert all(
        m.value is None and m.reason == "the judged half lacks members or non-members" for m in one_sided.values()
    )
    for bad in (torch.inf, torch.nan):
        with pytest.raises(Refused, match="finite"):
            figures(scores + bad, member, known)
    with pytest.raises(Refused, match="differ"):
        figures(scores[:-1], member, known)
