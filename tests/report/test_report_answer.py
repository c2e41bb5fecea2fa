"""The first screen's sentences: figures intervals and counts, no winner inside an interval, what is missing."""

import re
from dataclasses import replace

import pytest

from consilium.core.finding import Measure
from consilium.evidence.audit import AuditBound, AuditEvidence, ClaimTerms
from consilium.report.analyse.columns import TableColumn, columns
from consilium.report.analyse.compare import Gap
from consilium.report.analyse.effects import Change, Effect, changed, effects
from consilium.report.analyse.summary import rows
from consilium.report.answer.compose import answer
from consilium.report.answer.wording import change_words

ACCURACY = TableColumn("accuracy", "accuracy", "Utility", "", "high")
UNDER_ATTACK = TableColumn("worst_case", "worst case", "Evasion", "", "high")
ADVANTAGE = TableColumn("mia_advantage", "advantage", "Membership", "", "low", chance=0.0)
SIZE = TableColumn("bytes", "size", "Cost", "", "low", "bytes")


def change(mean, low, high, reason="", exact=False, ends=None, relative=False):
    return Change(mean, *(ends or (mean, mean)), 4, relative, Gap(low, high, reason, exact))


def sentences(study):
    return {one.topic: one.text for one in answer(study, rows(study), effects(study))}


def membership(study, value, low, high):
    """The study with this advantage and an AUC at chance found of every model."""
    advantage = (
        Measure.undefined("advantage", "too few") if value is None else Measure("advantage", value, low, high, 0.0, 200)
    )
    measures = (advantage, Measure("auc", 0.5, 0.45, 0.55, 0.5, 400))
    cells = [
        replace(c, attacks=tuple(replace(f, measures=measures) if f.aim == "membership" else f for f in c.attacks))
        for c in study.evidence
    ]
    return replace(study, evidence=tuple(cells))


@pytest.mark.parametrize(
    ("column", "made", "words"),
    [
        (ACCURACY, change(-0.107, -0.125, -0.092), "costs 10.7 points of accuracy (9.2 to 12.5)"),
        (UNDER_ATTACK, change(0.189, 0.15, 0.22), "gains 18.9 points of accuracy under attack (15.0 to 22.0)"),
        (ACCURACY, change(-0.107, -0.2, 0.01), "has no measurable effect on accuracy (−20.0 to 1.0)"),
        (ACCURACY, change(0.02, 0.01, 0.03, ends=(-0.01, 0.05)),
         "has no consistent effect, as pairs disagree, on accuracy (mean 2.0, 1.0 to 3.0)"),
        (UNDER_ATTACK, change(0.035, 0.015, 0.055, ends=(0.0, 0.064)),
         "has an effect that not every pair shows, as at least one is unchanged, on accuracy under attack "
         "(mean 3.5, 1.5 to 5.5)"),
        (ACCURACY, change(-0.107, None, None, "no scores"), "has an undetermined effect on accuracy (no scores)"),
        (ADVANTAGE, change(-0.12, -0.15, -0.1), "lowers membership advantage by 12.0 points (10.0 to 15.0)"),
        (ADVANTAGE, change(0.12, 0.1, 0.15), "raises membership advantage by 12.0 points (10.0 to 15.0)"),
        (SIZE, change(-0.72, -0.72, -0.72, exact=True, relative=True), "makes the model 72 % smaller"),
        (SIZE, change(-0.001, -0.001, -0.001, exact=True, relative=True), "changes none of the figures"),
    ],
)  # fmt: skip
def test_each_kind_of_change_has_its_words(column, made, words):
    assert change_words([(column, made)]) == words


def test_a_cost_is_said_only_beyond_the_interval(study, one_seed):
    """Every effect of both studies: the verbs stand where, and only where, the change is a loss or a gain."""
    ways = set()
    for every in (study, one_seed):
        for effect in effects(every):
            for column in changed(every):
                made = effect.changes[column.key]
                if made is None or column.style != "share":
                    continue
                way, text = made.way(column), change_words([(column, made)])
                ways.add(way)
                assert bool(re.match("costs|gains|lowers|raises", text)) == (way in ("loss", "gain"))
    assert {"loss", "gain", "open"} <= ways


def test_the_quickstart_is_answered(one_seed):
    text = sentences(one_seed)
    topics = ["chance", "baseline", "privacy", "compression", "robustness", "membership", "infected", "missing"]
    assert list(text) == topics, "and its collapsed arm is at chance"
    assert re.fullmatch(
        r"Without a defence the model has accuracy 0\.956 \(0\.\d+ to 0\.\d+, chance 0\.100\) on 360 test records and "
        r"at most 0\.\d+ \(.*\) under all 3 evasion attacks\.",
        text["baseline"],
    )
    assert re.match(r"dp-sgd at ε = 7\.8 per example costs \d+\.\d points of accuracy \(", text["privacy"])
    assert text["privacy"].endswith("4 pairs, n = 360 (200 for membership advantage)."), "each has its own n"
    assert "makes the model 74 % smaller" in text["compression"]
    assert "Arms with noise may look better infected" not in text["infected"], "here none does"


def test_a_signal_is_named_with_its_arm_and_nothing_found_is_no_proof(one_seed):
    quiet = sentences(membership(one_seed, 0.02, -0.1, 0.14))["membership"]
    assert quiet == (
        "No membership attack found a signal in any of 8 clean arms: the largest advantage is 0.020 (−0.100 to 0.140, "
        "chance 0.000, n = 200), of arm A (none). That is no proof: another attack may find more."
    )
    loud = sentences(membership(one_seed, 0.2, 0.1, 0.3))["membership"]
    assert loud.startswith("Membership attacks found a signal in 8 of 8 clean arms, A (none), ")
    assert "the largest advantage is 0.200 (0.100 to 0.300, chance 0.000, n = 200)" in loud and "proof" not in loud
    inverted = sentences(membership(one_seed, -0.2, -0.3, -0.1))["membership"]
    assert inverted.startswith("In 8 of 8 clean arms, A (none), ") and "a figure lies wholly below chance" in inverted
    assert inverted.endswith("Without any leak, about 0.4 to 0.8 of these 8 arms would show a signal by chance.")
    none = sentences(membership(one_seed, None, None, None))["membership"]
    assert "the largest AUC is 0.500" in none


def test_one_arm_without_choices_has_its_level_and_no_effects(one_seed):
    alone = replace(
        one_seed,
        axes={},
        arms=one_seed.arms[:1],
        evidence=tuple(c for c in one_seed.evidence if c.arm == "none" and c.infected_by == "none"),
    )
    text = sentences(alone)
    assert list(text) == ["baseline", "membership"] and text["baseline"].startswith("The model has accuracy 0.956")
    assert "in the model: " in text["membership"] or "in any of" not in text["membership"]


def test_what_failed_was_refused_or_collapsed_is_said(study):
    text = sentences(study)
    assert text["missing"] == (
        "3 of 32 models failed or are missing, 1 arm was refused and H (dp-sgd + static-int8 + adversarial-training) "
        "collapsed to nearly one answer and is not ranked under attack: the figures are of the others."
    )
    assert "Means over 2 seeds." in text["baseline"]


def test_an_unjudged_study_has_no_answer(study):
    empty = replace(study, evidence=())
    assert sentences(empty)["no answer"] == "No model was judged, so nothing can be said yet."


def test_an_undefined_figure_is_said_to_be(one_seed):
    cells = [
        replace(c, utility=tuple(Measure.undefined(m.name, "answers are NaN") if m.name == "accuracy" else m
                                 for m in c.utility))
        for c in one_seed.evidence
    ]  # fmt: skip
    text = sentences(replace(one_seed, evidence=tuple(cells)))
    assert "has no accuracy (answers are NaN)" in text["baseline"]


def test_a_task_is_read_by_its_own_figure_first(one_seed):
    cells = [replace(c, utility=(*c.utility, Measure("dice", 0.7, 0.6, 0.8, 0.1, 40))) for c in one_seed.evidence]
    text = sentences(replace(one_seed, evidence=tuple(cells)))
    assert "reaches Dice 0.700 (0.600 to 0.800, chance 0.100), has accuracy" in text["baseline"]


def test_many_choices_are_counted(one_seed):
    column = next(c for c in columns(one_seed) if c.key == "accuracy")
    some = [change(-0.02, -0.03, -0.01), change(-0.1, -0.12, -0.08), *[change(0.0, -0.01, 0.01)] * 4]
    many = [Effect("codec", f"codec-{k}", {column.key: one}) for k, one in enumerate(some)]
    (text,) = [one.text for one in answer(one_seed, rows(one_seed), many) if one.topic == "choices"]
    assert text == (
        "Of 6 choices, on accuracy: 2 worsen it, by 2.0 points (1.0 to 3.0) up to 10.0 points (8.0 to 12.0): codec-0 "
        "and codec-1; 4 have no measurable effect or a mixed one."
    )


@pytest.mark.parametrize(
    ("exceeded", "words"),
    [
        (False, "None of 1 audited claim is broken, which proves none: the largest lower bound of ε is 1.2, beside"),
        (True, "1 of 1 audited claim broken: the largest lower bound of ε is 1.2, beside a claim of 8"),
    ],
)
def test_an_audit_refutes_and_never_proves(one_seed, exceeded, words):
    audit = AuditEvidence(ClaimTerms(epsilon=8.0), AuditBound(epsilon=1.2, confidence=0.95), exceeded=exceeded)
    first, *others = one_seed.evidence
    assert sentences(replace(one_seed, evidence=(replace(first, audits={"canaries": audit}), *others)))[
        "audit"
    ].startswith(words)


def test_an_infection_that_seems_to_help_noisy_arms_is_explained(one_seed):
    column = next(c for c in changed(one_seed) if c.key == "accuracy")
    helps = [Effect("infected", "adversarial-poisoning", {column.key: change(0.03, -0.01, 0.06)})]
    (text,) = [one.text for one in answer(one_seed, rows(one_seed), helps) if one.topic == "infected"]
    assert text.startswith("adversarial-poisoning has no measurable effect on accuracy (−1.0 to 6.0)")
    assert text.endswith("the corrupted site obeys no defence, so it adds none.")
