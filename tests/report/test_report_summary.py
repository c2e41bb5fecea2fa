"""Over seeds: Student's t by hand, epsilon never averaged, bounds and collapse marked, effects paired."""

import math
from dataclasses import replace

import numpy as np
import pytest

from consilium.core.finding import Measure
from consilium.report.analyse.columns import columns, is_bound, measure_of
from consilium.report.analyse.effects import Change, effects
from consilium.report.analyse.highlights import UNDETERMINED, highlights
from consilium.report.analyse.summary import code_of, majority_rate, rows
from consilium.report.load.scores import read_scores, worst_case_accuracy

COLLAPSED = "dp-sgd + static-int8 + adversarial-training"


def row(study, arm, infected_by="none"):
    return next(r for r in rows(study) if (r.arm.name, r.infected_by) == (arm, infected_by))


def test_two_seeds_give_students_t(study):
    figure = row(study, "none").figures["accuracy"]
    a, b = (measure_of(cell, "accuracy").value for cell in study.arm_cells("none", "none"))
    half = 12.7062047 * abs(a - b) / 2  # t of one degree of freedom times sd / sqrt(2)
    assert figure.value == pytest.approx((a + b) / 2)
    assert (figure.low, figure.high) == (pytest.approx((a + b) / 2 - half), pytest.approx(min(1, (a + b) / 2 + half)))
    assert (figure.seeds, figure.n, figure.how) == (2, 360, "95 % over seeds (Student t)")


def test_one_seed_keeps_the_measures_own_interval_and_says_so(one_seed):
    figure = row(one_seed, "none").figures["accuracy"]
    own = measure_of(one_seed.arm_cells("none", "none")[0], "accuracy")
    assert (figure.low, figure.high, figure.how) == (own.low, own.high, "own interval of the only seed")


def test_epsilon_is_the_largest_over_seeds_and_none_without_a_claim(study):
    cells = study.arm_cells("dp-sgd", "none")
    worse = replace(cells[1], privacy=replace(cells[1].privacy, epsilon=9.5))
    changed = replace(study, evidence=tuple(worse if c is cells[1] else c for c in study.evidence))
    assert row(changed, "dp-sgd").figures["epsilon"].value == 9.5
    assert row(study, "none").figures["epsilon"].value is None


def test_every_arm_has_a_clean_row_and_infected_rows_where_cells_are(study):
    found = [(r.code, r.infected_by) for r in rows(study)]
    assert len(found) == 17 and found[-1] == ("I", "none")
    assert [code_of(i) for i in (0, 25, 26, 27, 52)] == ["A", "Z", "AA", "AB", "BA"]


def test_status_and_collapse(study):
    assert row(study, "dp-sgd + prune").status == "refused"
    assert row(study, "dp-sgd", "adversarial-poisoning").status == "1 of 2 failed"
    assert row(study, COLLAPSED).collapsed == 2 and row(study, "none").collapsed == 0
    assert majority_rate(study) == pytest.approx(0.105)


def test_an_attack_without_surrogate_is_an_upper_bound_without_interval(study):
    figures = row(study, "dp-sgd + static-int8").figures
    assert figures["robust_accuracy:pgd"].value is None and figures["robust_accuracy:pgd"].upper
    assert figures["robust_accuracy:pgd"].ceiling == figures["accuracy"].value
    assert figures["worst_case"].upper and figures["worst_case"].low is None
    assert not figures["robust_accuracy:transfer"].upper


def test_the_worst_case_is_per_image(study):
    cell = study.arm_cells("none", "none")[0]
    masks = [read_scores(f.file)["correct"] > 0.5 for f in cell.aimed("evasion")]
    stood = np.logical_and.reduce(masks)
    assert worst_case_accuracy(cell).value == stood.mean() < min(mask.mean() for mask in masks)
    assert worst_case_accuracy(cell).n == 360 and not is_bound(cell, "worst_case")


def test_without_masks_the_worst_case_is_only_bounded(study):
    cell = study.arm_cells("none", "none")[0]
    bare = replace(cell, attacks=tuple(replace(f, file=None) for f in cell.attacks))
    values = [f.measure("robust_accuracy").value for f in cell.aimed("evasion")]
    assert worst_case_accuracy(bare).value == min(values) and is_bound(bare, "worst_case")


def test_a_failed_attack_makes_the_worst_case_a_bound(study):
    broken = next(c for c in study.evidence if c.error == "transfer: out of memory")
    assert is_bound(broken, "worst_case")


def test_columns_without_a_figure_are_left_out(study, one_seed):
    keys = [column.key for column in columns(study)]
    assert keys[:4] == ["accuracy", "balanced_accuracy", "auroc", "epsilon"]
    nothing = replace(one_seed, evidence=tuple(replace(c, cost=(), attacks=()) for c in one_seed.evidence))
    assert [c.key for c in columns(nothing)] == ["accuracy", "balanced_accuracy", "auroc", "epsilon", "seconds"]


def effect(study, label):
    return next(e for e in effects(study) if e.label == label).changes


def test_effects_are_differences_of_pairs(one_seed):
    sound = replace(one_seed, evidence=tuple(c for c in one_seed.evidence if c.arm != COLLAPSED))
    change = effect(sound, "static-int8")["accuracy"]
    assert (change.pairs, change.mean) == (3, pytest.approx(-2 / 360))
    size = effect(sound, "static-int8")["bytes"]
    assert size.relative and size.mean == pytest.approx(25210 / 98004 - 1)
    assert effect(sound, "adversarial-poisoning")["accuracy"].pairs == 7


def test_collapsed_models_and_bounds_move_no_robustness(study):
    assert effect(study, "adversarial-training")["accuracy"].pairs == 8
    assert effect(study, "adversarial-training")["worst_case"].pairs == 6  # not the collapsed, twice
    assert effect(study, "static-int8")["worst_case"].pairs == 4  # nor those without surrogate


def test_no_card_ranks_a_collapsed_arm_by_anything_but_size(study):
    small = replace(study, evidence=tuple(c for c in study.evidence if c.arm in (COLLAPSED, "none")))
    made = {card.title: card.arm for card in highlights(small, rows(small))}
    assert made["Smallest"] == COLLAPSED and made["Most accurate"] == made["Withstands most"] == "none"
    assert made["Leaks least"] == "none" and "Most accurate with an ε" not in made


def test_an_arm_is_crowned_only_beyond_the_paired_interval_of_every_rival(study):
    card = {card.title: card for card in highlights(study, rows(study))}["Most accurate"]
    assert (card.figure, card.crowned, card.arm) == ("no arm is measurably best", False, "none")
    assert [name for _, name in card.alike] == ["none", "static-int8"]  # 0.956 and 0.950: two records of 360
    assert "Highest: 0.958 (" in card.text and "1 of 6 other arms not distinguishable from it" in card.text
    apart = replace(study, evidence=tuple(c for c in study.evidence if c.arm != "static-int8"))
    card = {card.title: card for card in highlights(apart, rows(apart))}["Most accurate"]
    assert card.crowned and card.arm == "none" and math.isclose(float(card.figure), 0.958, abs_tol=5e-4)
    assert card.text.endswith("beyond the paired interval against each of 5 other arms (99.00% each, Bonferroni)")


def test_without_scores_nobody_is_crowned_and_nothing_is_better(study):
    """A folder of an older version."""
    old = replace(study, evidence=tuple(replace(c, file=None, scores=None, attacks=()) for c in study.evidence))
    made = {card.title: card for card in highlights(old, rows(old))}
    assert not made["Most accurate"].crowned and "not comparable: no scores" in made["Most accurate"].text
    assert made["Infection hurts most"].figure == UNDETERMINED
    accuracy = next(c for c in columns(old) if c.key == "accuracy")
    change = effect(old, "adversarial-poisoning")["accuracy"]
    assert (change.way(accuracy), change.gap.reason) == ("unknown", "not comparable: no scores")


def test_sizes_are_exact_and_a_tie_is_no_winner(study):
    made = {card.title: card for card in highlights(study, rows(study))}
    assert "74.3% smaller" in made["Smallest"].text and "3 other arms as small" in made["Smallest"].text
    assert len(made["Smallest"].alike) == 4 and made["Smallest"].figure == "25.2 kB"
    size = next(c for c in columns(study) if c.key == "bytes")
    assert effect(study, "static-int8")["bytes"].way(size) == "gain"
    assert effect(study, "dp-sgd")["bytes"].way(size) == "equal"
    alike = replace(study, evidence=tuple(c for c in study.evidence if "int8" not in c.arm))
    assert {c.title: c for c in highlights(alike, rows(alike))}["Smallest"].figure == "no arm is measurably best"


def test_latencies_have_the_intervals_of_their_timing(one_seed):
    two = replace(one_seed, evidence=tuple(c for c in one_seed.evidence if c.arm in ("none", "static-int8")))
    latency = next(c for c in columns(two) if c.key == "latency_ratio")
    change = effect(two, "static-int8")["latency_ratio"]  # 0.74 of (0.70, 1.05) against 1.00 of (0.70, 1.05)
    assert change.gap.low < 0 < change.gap.high and change.way(latency) == "open"

    def sure(measure):
        certain = replace(measure, low=measure.value - 0.01, high=measure.value + 0.01)
        return certain if measure.name == "latency_ratio" else measure

    known = replace(two, evidence=tuple(replace(c, cost=tuple(map(sure, c.cost))) for c in two.evidence))
    assert effect(known, "static-int8")["latency_ratio"].way(latency) == "gain"


def healed(study):
    """The study with one infected model far better than its clean twin, and the others as they are."""
    lucky = next(c for c in study.evidence if c.arm == "dp-sgd" and c.infected_by != "none" and c.judged)
    better = tuple(replace(m, value=0.999) if m.name == "accuracy" else m for m in lucky.utility)
    return replace(study, evidence=tuple(replace(c, utility=better) if c is lucky else c for c in study.evidence))


def test_pairs_on_both_sides_of_zero_have_no_direction(study):
    assert Change(0.01, -0.01, 0.03, 8, False).mixed
    assert not Change(0.01, 0.0, 0.03, 8, False).mixed and not Change(-0.02, -0.03, -0.01, 8, False).mixed
    assert not effect(study, "adversarial-poisoning")["accuracy"].mixed
    assert effect(healed(study), "adversarial-poisoning")["accuracy"].mixed


def harm(study):
    return {c.title: c for c in highlights(study, rows(study))}["Infection hurts most"]


def test_harm_is_claimed_only_beyond_its_paired_interval(study):
    assert harm(study).figure == "no arm is measurably hurt most" and len(harm(study).alike) > 1
    clean = {(c.arm, c.seed): c for c in study.evidence if c.infected_by == "none"}
    twins = tuple(
        replace(c, utility=clean[c.arm, c.seed].utility, file=clean[c.arm, c.seed].file) for c in study.evidence
    )
    unharmed = harm(replace(study, evidence=twins))
    assert unharmed.figure == "no measurable harm" and "inside the paired interval of every arm" in unharmed.text


def test_scores_that_do_not_give_the_figure_shown_are_not_compared(study):
    change = effect(healed(study), "adversarial-poisoning")["accuracy"]
    assert change.gap.reason == "not comparable: its scores give another figure" and change.gap.sign == 0


def test_rounds_to_a_target_have_no_mean_where_a_seed_did_not_reach_it(study):
    cells = study.arm_cells("none", "none")
    reached = Measure("rounds_to_accuracy", 12.0, n=30, unit="rounds")
    missed = Measure.undefined("rounds_to_accuracy", "0.9 was not reached in 20 rounds (best 0.850)")

    def told(*measures):
        made = {id(c): replace(c, cost=(*c.cost, m)) for c, m in zip(cells, measures, strict=True)}
        changed = replace(study, evidence=tuple(made.get(id(c), c) for c in study.evidence))
        return row(changed, "none").figures["rounds_to_accuracy"]

    assert told(reached, replace(reached, value=14.0)).value == 13.0
    figure = told(reached, missed)
    assert figure.value is None
    assert figure.reason == "in 1 of 2 seeds 0.9 was not reached in 20 rounds (best 0.850)"
