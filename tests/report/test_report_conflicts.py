"""The rule of Def\\Con on planted defences, and interactions against differences of figures worked out by hand."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from consilium.core.defence import (
    AnswerDefence,
    DataDefence,
    MergeDefence,
    ModelDefence,
    TrainingDefence,
    UpdateDefence,
)
from consilium.defend.training.adversarial_training import AdversarialTraining
from consilium.defend.training.dp_sgd import DPSGD
from consilium.evidence.study import DefenceEvidence
from consilium.report.analyse.robustness.conflicts import agreement, combinations_of_two
from consilium.report.load.records import StudyRecord

PRIVACY = DefenceEvidence("privacy", "dp-sgd", "dp-sgd", "in-training", ("membership", "reconstruction"))
SMALL = DefenceEvidence("compression", "static-int8", "static-int8", "post-training")
ROBUST = DefenceEvidence("robustness", "adversarial-training", "adversarial-training", "in-training", ("evasion",))


def with_defences(study, *defences):
    return replace(study, defences=defences)


def found(study, *defences):
    return {(one.first, one.second): one for one in combinations_of_two(with_defences(study, *defences))}


def test_every_moment_has_its_phase_and_its_risks():
    phases = [DataDefence, TrainingDefence, UpdateDefence, MergeDefence, ModelDefence, AnswerDefence]
    assert [one.phase for one in phases] == [
        "pre-training", "in-training", "in-training", "in-training", "post-training", "post-training",
    ]  # fmt: skip
    assert MergeDefence.mitigates == ("poisoning",) and TrainingDefence.mitigates == TrainingDefence.uses == ()
    assert AdversarialTraining.mitigates == ("evasion",) and "membership" in DPSGD.mitigates


def test_a_study_without_the_declarations_has_no_table(one_seed):
    assert combinations_of_two(one_seed) == ()


@pytest.mark.parametrize(
    ("phases", "conflict"),
    [
        (("pre-training", "in-training"), True),
        (("in-training", "post-training"), True),
        (("in-training", "in-training"), True),
        (("post-training", "in-training"), False),
    ],
)
def test_a_conflict_is_a_risk_that_is_used_first_and_lowered_later(one_seed, phases, conflict):
    uses, lowers = phases
    mark = replace(PRIVACY, phase=uses, mitigates=(), uses=("poisoning", "evasion"))
    for pair in ((mark, replace(ROBUST, phase=lowers)), (replace(ROBUST, phase=lowers), mark)):
        (one,) = found(one_seed, *pair).values()
        assert bool(one.cause) == conflict
        assert not conflict or one.cause == "dp-sgd uses the risk of evasion, which adversarial-training mitigates"


def test_only_choices_of_two_axes_that_some_model_has_together(one_seed):
    every = found(one_seed, PRIVACY, SMALL, ROBUST, replace(SMALL, label="prune"), replace(PRIVACY, kind="other"))
    assert set(every) == {
        ("dp-sgd", "static-int8"), ("dp-sgd", "adversarial-training"), ("static-int8", "adversarial-training"),
    }  # fmt: skip
    assert all(not one.cause for one in every.values())


def withstood(study, tmp_path, shares):
    """The study in which the one attack left these shares standing, by (privacy, robustness), out of 400 records."""
    cells = []
    for cell in study.evidence:
        key = (cell.choices["privacy"] != "none", cell.choices["robustness"] != "none")
        n = 400
        correct = torch.arange(n) < round(n * shares[key])
        path, whole = tmp_path / f"{cell.digest}-a.safetensors", tmp_path / f"{cell.digest}-s.safetensors"
        save_file({"correct": correct}, path)
        save_file({"id": torch.arange(n), "unit": torch.arange(n), "label": torch.arange(n) % 10,
                   "correct": torch.ones(n, dtype=torch.bool)}, whole)  # fmt: skip
        attack = cell.aimed("evasion")[0]
        measure = replace(attack.measures[0], name="robust_accuracy", value=shares[key], reason="", n=n)
        attack = replace(attack, measures=(measure,), notes=(), file=path)
        cells.append(replace(cell, attacks=(attack,), file=whole, collapsed=False))
    return replace(study, evidence=tuple(cell for cell in cells if cell.infected_by == "none"))


def worst(one):
    return next(i for i in one.interactions if i.column.robustness)


def test_the_interaction_is_what_both_do_beyond_each_alone(one_seed, tmp_path):
    shares = {(False, False): 0.1, (True, False): 0.15, (False, True): 0.6, (True, True): 0.2}
    study = withstood(one_seed, tmp_path, shares)
    one = found(study, PRIVACY, ROBUST)["dp-sgd", "adversarial-training"]
    measured = worst(one)
    assert measured.mean == pytest.approx(0.2 - 0.15 - 0.6 + 0.1) and measured.low < measured.mean < measured.high < 0
    assert measured.groups == 2 and measured.way == "loss", "with and without compression"
    assert (one.measured, one.agrees, one.cause) == ("conflict", False, "")
    assert agreement([one]) == (0, 1, 0)


def test_what_adds_up_is_no_conflict_and_agrees(one_seed, tmp_path):
    shares = {(False, False): 0.1, (True, False): 0.15, (False, True): 0.6, (True, True): 0.65}
    one = found(withstood(one_seed, tmp_path, shares), PRIVACY, ROBUST)["dp-sgd", "adversarial-training"]
    assert worst(one).mean == pytest.approx(0) and worst(one).way == "open"
    assert (one.measured, one.agrees) == ("none", True) and agreement([one]) == (1, 1, 0)


def test_a_figure_of_a_risk_that_neither_lowers_is_not_in_the_verdict(one_seed, tmp_path):
    shares = {(False, False): 0.1, (True, False): 0.15, (False, True): 0.6, (True, True): 0.2}
    study = withstood(one_seed, tmp_path, shares)
    one = found(study, replace(PRIVACY, mitigates=()), replace(ROBUST, mitigates=()))["dp-sgd", "adversarial-training"]
    assert worst(one).way == "loss" and one.judged == () and (one.measured, one.agrees) == ("unknown", None)
    assert agreement([one]) == (0, 0, 1)


@pytest.mark.parametrize("flaw", ["collapsed", "flag", "missing"])
def test_a_model_whose_figure_means_nothing_is_left_out(one_seed, tmp_path, flaw):
    shares = {(False, False): 0.1, (True, False): 0.15, (False, True): 0.6, (True, True): 0.2}
    study = withstood(one_seed, tmp_path, shares)
    bad = next(cell for cell in study.evidence if cell.arm == "dp-sgd")
    notes = (replace(bad.attacks[0], notes=("Red flag: masking, loss: hidden.",)),)
    change = {"collapsed": {"collapsed": True}, "flag": {"attacks": notes}, "missing": {"utility": ()}}[flaw]
    cells = tuple(replace(cell, **change) if cell is bad else cell for cell in study.evidence)
    one = found(StudyRecord(**{**vars(study), "evidence": cells}), PRIVACY, ROBUST)["dp-sgd", "adversarial-training"]
    assert worst(one).groups == 1
