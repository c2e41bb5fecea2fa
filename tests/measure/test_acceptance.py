"""Which verdict which kind of figure allows, at every place of its interval; seeds by hand; how often it errs."""

import math

import numpy as np
import pytest
from scipy import stats

from consilium.core.finding import Measure
from consilium.measure.acceptance import OF_ATTACKS, OF_MODELS, FigureKind, decide
from consilium.measure.intervals import wilson

BELOW, WITHIN, ABOVE = 0.9, 0.5, 0.1
"""Thresholds under which [0.4, 0.6] lies wholly below, astride, wholly above."""
ALLOWED = {
    ("estimate", "at_least"): {BELOW: "not met", WITHIN: "undecided", ABOVE: "met"},
    ("estimate", "at_most"): {BELOW: "met", WITHIN: "undecided", ABOVE: "not met"},
    ("ceiling", "at_least"): {BELOW: "not met", WITHIN: "undecided", ABOVE: "undecided"},
    ("ceiling", "at_most"): {BELOW: "met", WITHIN: "undecided", ABOVE: "undecided"},
    ("floor", "at_least"): {BELOW: "undecided", WITHIN: "undecided", ABOVE: "met"},
    ("floor", "at_most"): {BELOW: "undecided", WITHIN: "undecided", ABOVE: "not met"},
}


def verdict(figure, measures, at_least=None, at_most=None):
    return decide(figure, at_least, at_most, measures)


@pytest.mark.parametrize(("sense", "bound"), ALLOWED)
def test_each_kind_of_figure_decides_what_it_can(sense, bound):
    measure = Measure("m", 0.5, 0.4, 0.6, n=50)
    for threshold, wanted in ALLOWED[sense, bound].items():
        made = verdict(FigureKind(sense), [measure], **{bound: threshold})
        assert made.verdict == wanted, threshold
        assert ("n = 50" in made.reason) == (wanted == "undecided") and (made.n, made.seeds) == (50, 1)


def test_the_edge_of_the_interval_is_on_the_right_side():
    measure = [Measure("m", 0.5, 0.4, 0.6)]
    assert (
        verdict(FigureKind(), measure, at_least=0.4).verdict
        == verdict(FigureKind(), measure, at_most=0.6).verdict
        == "met"
    )
    assert verdict(FigureKind(), measure, at_least=0.6).verdict == "undecided"


def test_seeds_and_records_add_in_quadrature():
    measures = [Measure("m", v, v - 0.02, v + 0.03, n=n) for v, n in ((0.5, 90), (0.52, 80), (0.57, 70))]
    made = verdict(FigureKind(), measures, at_least=0.5)
    values = [m.value for m in measures]
    half = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / math.sqrt(3)
    assert made.value == pytest.approx(np.mean(values)) and (made.n, made.seeds) == (70, 3)
    assert made.low == pytest.approx(np.mean(values) - math.hypot(half, 0.02))
    assert made.high == pytest.approx(np.mean(values) + math.hypot(half, 0.03))


def test_two_equal_seeds_are_no_certainty():
    """Their spread is 0, and the records' interval is still there."""
    made = verdict(FigureKind(), [Measure("m", 0.8, 0.7, 0.9)] * 2, at_least=0.75)
    assert (made.low, made.high) == (pytest.approx(0.7), pytest.approx(0.9)) and made.verdict == "undecided"


def test_counts_are_exact_and_of_claims_the_largest_counts():
    sizes = [Measure("bytes", float(size)) for size in (900, 1000)]
    assert verdict(OF_MODELS["bytes"], sizes, at_most=1000).verdict == "met"
    assert verdict(OF_MODELS["bytes"], sizes, at_most=950).verdict == "undecided"
    assert verdict(OF_MODELS["bytes"], sizes, at_most=800).verdict == "not met"
    claims = [Measure("epsilon", 2.0), Measure("epsilon", 9.0)]
    assert verdict(OF_MODELS["epsilon"], claims, at_most=8.0).verdict == "not met"
    audits = [Measure("audited_epsilon", 0.5), Measure("audited_epsilon", 3.0)]
    audited = OF_ATTACKS["canaries"]["audited_epsilon"]
    assert verdict(audited, audits, at_most=2.0).verdict == "not met"
    assert verdict(audited, audits, at_most=4.0).verdict == "undecided"


def test_what_is_undefined_or_has_no_interval_is_undecided():
    lost = verdict(
        FigureKind(), [Measure("m", 0.9, 0.8, 1.0), Measure.undefined("m", "no record of class 2")], at_least=0.1
    )
    assert lost.verdict == "undecided" and "1 of 2 seeds: no record of class 2" in lost.reason
    bare = verdict(FigureKind(), [Measure("m", 0.9)], at_least=0.1)
    assert (bare.verdict, bare.reason) == ("undecided", "one seed, and no interval")
    assert verdict(FigureKind(), [], at_least=0.1).verdict == "undecided"


def test_a_threshold_at_the_truth_is_seldom_decided():
    """5 in 100 by the interval; with 400 draws more than 30 would be no chance."""
    draws = np.random.default_rng(0).binomial(200, 0.8, size=400)
    made = [verdict(FigureKind(), [Measure("m", k / 200, *wilson(int(k), 200))], at_least=0.8).verdict for k in draws]
    wrong = sum(one != "undecided" for one in made)
    assert 4 <= wrong <= 30 and {"met", "not met"} <= set(made)


def test_figures_of_attacks_are_bounds_and_assumptions_decide_nothing():
    kinds = {name: figure.sense for known in OF_ATTACKS.values() for name, figure in known.items()}
    assert {kinds[name] for name in ("robust_accuracy", "balanced_robust_accuracy")} == {"ceiling"}
    assert {kinds[name] for name in ("success_rate", "advantage", "auc", "tpr_at_fpr_1", "audited_epsilon")} == {
        "floor"
    }
    assert kinds["advantage_bound"] == "estimate" and "audited_epsilon_gaussian" not in kinds
