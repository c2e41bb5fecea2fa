"""Models that learned nothing: said first, no effect is read from them, and no card crowns one or a lone arm."""

from dataclasses import replace

import pytest

from consilium.core.finding import Measure
from consilium.report.analyse.columns import score_column
from consilium.report.analyse.effects import effects
from consilium.report.analyse.highlights import ALONE, NOBODY, highlights
from consilium.report.analyse.summary import rows, unskilled
from consilium.report.answer.compose import answer


def sentences(study):
    return {one.topic: one.text for one in answer(study, rows(study), effects(study))}


def planted(study, arms, value=0.1, low=0.07, high=0.14, chance=0.103):
    """The study with this accuracy of every model of these arms."""
    accuracy = Measure("accuracy", value, low, high, chance, 360, reason="" if value else "no answers")
    cells = [
        replace(c, utility=tuple(accuracy if m.name == "accuracy" else m for m in c.utility)) if c.arm in arms else c
        for c in study.evidence
    ]
    return replace(study, evidence=tuple(cells))


def every_arm(study):
    return {c.arm for c in study.evidence}


def cards(study):
    return {card.title: card for card in highlights(study, rows(study))}


def test_arms_that_learned_nothing_come_first_and_nothing_is_read_from_them(one_seed):
    text = sentences(planted(one_seed, every_arm(one_seed)))
    assert next(iter(text)) == "chance"
    assert text["chance"].startswith("8 of 8 arms, A (none), ")
    assert (
        "are not above chance (accuracy 0.100, chance 0.103): they learned nothing that the accuracy shows, "
        in (text["chance"])
    )
    assert "neither a cost nor a protection can be read from them" in text["chance"]
    for topic in ("privacy", "robustness"):
        assert "no measurable effect" not in text[topic] and "cannot be read, as neither model of any" in text[topic]
    assert "makes the model 74 % smaller; its other effects cannot be read" in text["compression"]


def test_a_pair_of_which_one_model_learned_is_read(one_seed):
    """Noise that destroys a model is a cost; only pairs of two such models are left out."""
    noisy = {arm for arm in every_arm(one_seed) if "dp-sgd" in arm}
    study = planted(one_seed, noisy)
    text = sentences(study)
    assert text["chance"].startswith("4 of 8 arms, ") and "cannot be read, as" not in text["privacy"]
    assert "; in 2 of 4 pairs neither model is above chance, so these show no effect." in text["compression"]
    found = {effect.label: (effect.unskilled, effect.pairs) for effect in effects(study)}
    assert found["dp-sgd"] == (0, 4) and found["static-int8"] == (2, 4)


def test_models_above_chance_are_not_accused(one_seed):
    good = replace(one_seed, evidence=tuple(c for c in one_seed.evidence if not c.collapsed))
    assert "chance" not in sentences(good)


@pytest.mark.parametrize(
    ("figures", "level"),
    [((0.1, 0.07, 0.14, 0.103), True), ((0.2, 0.15, 0.25, 0.103), False), ((0.2, 0.05, 0.4, 0.103), True),
     ((0.05, 0.02, 0.09, 0.103), True), ((0.2, None, None, 0.103), False), ((0.1, None, None, 0.103), True),
     ((0.1, 0.07, 0.14, None), False), ((None, None, None, 0.103), False)],
)  # fmt: skip
def test_a_model_is_at_chance_by_its_own_interval(one_seed, figures, level):
    study = planted(one_seed, every_arm(one_seed), *figures)
    assert {unskilled(cell, score_column(study)) for cell in study.evidence} == {level}


def test_no_card_crowns_a_lone_arm(one_seed):
    alone = replace(
        one_seed,
        axes={},
        arms=one_seed.arms[:1],
        evidence=tuple(c for c in one_seed.evidence if c.arm == "none" and c.infected_by == "none"),
    )
    card = cards(alone)["Most accurate"]
    assert card.figure == ALONE and not card.crowned and "0.956" in card.text and "no other arm" in card.text


def test_no_card_crowns_an_arm_at_chance(one_seed):
    """The best of some that are worse than chance beyond every paired interval."""
    pair = replace(one_seed, evidence=tuple(c for c in one_seed.evidence if c.arm in ("none", COLLAPSES)))
    fair = replace(pair, evidence=tuple(replace(c, collapsed=False) for c in pair.evidence))
    assert cards(fair)["Most accurate"].crowned, "without the plant it is crowned"
    card = cards(planted(fair, {"none"}, 344 / 360, 0.05, 0.99))["Most accurate"]
    assert card.figure == NOBODY and not card.crowned and "is not above chance: it learned nothing" in card.text


COLLAPSES = "dp-sgd + static-int8 + adversarial-training"


def below(study, *, given):
    """The study with AUROC wholly below chance; ``given``: its models were not trained in it."""
    plain = planted(study, every_arm(study))
    auroc = Measure("auroc", 0.1, 0.05, 0.2, 0.5, 360)
    cells = [
        replace(
            c,
            utility=tuple(auroc if m.name == "auroc" else m for m in c.utility),
            training=None if given else c.training,
        )
        for c in plain.evidence
    ]
    return replace(plain, evidence=tuple(cells))


def test_a_given_model_below_chance_is_not_told_to_train(one_seed):
    text = sentences(below(one_seed, given=True))["chance"]
    assert "Train longer" not in text
    assert "learned" not in text
    assert "the order of its classes may be inverted" in text
    assert "wholly below chance" not in sentences(planted(one_seed, every_arm(one_seed)))["chance"]


def test_a_trained_model_below_chance_is_worse_than_guessing(one_seed):
    text = sentences(below(one_seed, given=False))["chance"]
    assert "Train longer" in text
    assert "worse than guessing" in text
